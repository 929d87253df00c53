"""What must hold on the real models before PPO may start.

Most silent failures of RLHF show here in a second: attention to padding, a cache that
differs from the full forward, a reference scored at another temperature, a reward
that changes with its batch. PPO refuses to start when one of them fails.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.errors import InputError
from rlhf_jax.experience.assess import make_assess
from rlhf_jax.experience.writer import sample_batch, sampling_spec
from rlhf_jax.parallel import compile_function, mesh_of, whole_rows
from rlhf_jax.sampling import layout_for_rollout

__all__ = ["check_players"]

# nats, or reward: float32 rounding through a deep model stays well below
TOLERANCE = {"float32": 2e-3, "bfloat16": 0.25, "float16": 0.05}


def check_players(config: Any, players: Any, batch: dict, *, rows: int = 4) -> dict:
    """Runs every check on a few sampled responses.

    What is run is PPO's own assessment, with the policy in the place of the reference,
    on responses that PPO's sampler wrote; where the policy lies.

    Args:
      config: `ppo.Config`.
      players: `ppo.Players`.
      batch: prompts; the first `rows` are used.
      rows: how many; repeated where the mesh has places for more.

    Returns:
      check name -> the largest deviation seen.

    Raises:
      InputError: names each check that failed, with its number and its limit.
    """
    policy = players.policy
    mesh = mesh_of(policy.params)
    places = np.arange(whole_rows(rows, mesh)) % min(rows, len(batch["prompts"]))
    batch = {key: np.asarray(value)[places] for key, value in batch.items()}
    dtype = config.rollout_dtype or policy.model.config.dtype
    spec = sampling_spec(
        policy, min(config.max_response, 16), config.temperature, config.end_tokens
    )
    key = jax.random.key(config.seed)
    sampler = policy.with_config(dtype=dtype).model
    params = policy.params
    if mesh.size > 1:
        params = layout_for_rollout(params, mesh, dtype)
    samples = sample_batch(sampler, params, batch, key, spec, mesh=mesh)
    found = {
        name: float(deviation)
        for name, deviation in _deviations(config, players, samples)
    }
    tolerance = max(TOLERANCE[dtype], TOLERANCE[policy.model.config.dtype])
    failed = [
        f"{name}: off by {value:.3g}, at most {tolerance:g} is rounding"
        for name, value in found.items()
        if not value <= (0.0 if name.startswith("KL") else tolerance)
    ]
    if failed:
        raise InputError(
            "the self-check before PPO failed:\n"
            + "\n".join(f"  - {line}" for line in failed)
        )
    return found


def _deviations(
    config: Any, players: Any, samples: dict
) -> Iterator[tuple[str, float]]:
    policy, mask = players.policy, samples["mask"]
    run = compile_function(
        make_assess(
            policy.model, players.reward_model, None, temperature=config.temperature
        )
    )
    params = {"policy": policy.params, "reference": policy.params}
    params["reward"] = players.reward_params

    def assess(rows: dict) -> dict:
        return run(params, rows)

    plain = assess(samples)
    logprobs = plain["old_logprobs"]
    yield (
        "cache against full forward",
        _gap(samples["sampler_logprobs"], logprobs, mask),
    )
    moved = _gap(logprobs, plain["ref_logprobs"], mask)
    yield (
        "KL of the policy to itself",
        jnp.maximum(moved, _gap(plain["exact_kl"], jnp.zeros_like(logprobs), mask)),
    )
    width = samples["prompts"].shape[1] + samples["tokens"].shape[1]
    room = policy.model.config.context_length - width
    padded = _with_left_padding(samples, policy.tokenizer.pad_token, min(3, room))
    wide = assess(padded)
    yield "policy under more padding", _gap(wide["old_logprobs"], logprobs, mask)
    if "scores" not in plain:
        return
    scores = plain["scores"]
    if not bool(jnp.isfinite(scores).all()):
        yield "reward is finite", np.inf
    yield "reward under more padding", jnp.abs(wide["scores"] - scores).max()
    turned = assess(jax.tree.map(lambda leaf: leaf[::-1], samples))["scores"]
    yield "reward whatever its batch mates", jnp.abs(turned[::-1] - scores).max()


def _gap(a: jax.Array, b: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.where(mask, jnp.abs(a - b), 0.0).max()


def _with_left_padding(samples: dict, pad: int, width: int) -> dict:
    def wider(leaf: jax.Array, value: Any) -> jax.Array:
        return jnp.pad(leaf, ((0, 0), (width, 0)), constant_values=value)

    return dict(
        samples,
        prompts=wider(samples["prompts"], pad),
        valid=wider(samples["valid"], False),
    )

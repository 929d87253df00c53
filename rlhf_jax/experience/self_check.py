"""What must hold on the real models before PPO may start.

Most silent failures of RLHF show here in a second: attention to padding, a cache that
differs from the full forward, a reference scored at another temperature, a reward
that changes with its batch. PPO refuses to start when one of them fails.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.errors import InputError
from rlhf_jax.experience.scoring import sample_batch, sampling_spec
from rlhf_jax.losses import kl_estimate
from rlhf_jax.models.responses import response_statistics
from rlhf_jax.registry.ensemble import reward_scores

__all__ = ["check_players"]

# nats, or reward: float32 rounding through a deep model stays well below
TOLERANCE = {"float32": 2e-3, "bfloat16": 0.25, "float16": 0.05}


def check_players(config: Any, players: Any, batch: dict, *, rows: int = 4) -> dict:
    """Runs every check on a few sampled responses.

    Args:
      config: `ppo.Config`.
      players: `ppo.Players`.
      batch: prompts; the first `rows` are used.
      rows: how many.

    Returns:
      check name -> the largest deviation seen.

    Raises:
      InputError: names each check that failed, with its number and its limit.
    """
    batch = {key: np.asarray(value)[:rows] for key, value in batch.items()}
    policy = players.policy
    limit = min(config.max_response, 16)
    spec = sampling_spec(policy, limit, config.temperature, config.end_tokens)
    samples = sample_batch(
        policy.model, policy.params, batch, jax.random.key(config.seed), spec
    )
    found = {
        name: float(deviation)
        for name, deviation in _deviations(config, players, samples)
    }
    tolerance = TOLERANCE[policy.model.config.dtype]
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

    @jax.jit
    def logprobs(rows: dict) -> jax.Array:
        return response_statistics(
            policy.model, policy.params, rows, temperature=config.temperature
        ).logprobs

    plain = logprobs(samples)
    yield "cache against full forward", _gap(samples["sampler_logprobs"], plain, mask)
    yield (
        "KL of the policy to itself",
        jnp.abs(jnp.where(mask, kl_estimate(plain, logprobs(samples)), 0.0)).max(),
    )
    width = samples["prompts"].shape[1] + samples["tokens"].shape[1]
    room = policy.model.config.context_length - width
    padded = _with_left_padding(samples, policy.tokenizer.pad_token, min(3, room))
    yield "policy under more padding", _gap(logprobs(padded), plain, mask)
    if players.reward is not None:
        yield from _reward_deviations(players.reward, samples, padded)


def _reward_deviations(
    reward: Any, samples: dict, padded: dict
) -> Iterator[tuple[str, float]]:
    score: Callable = jax.jit(
        lambda rows: reward_scores(reward.model, reward.params, rows)["scores"]
    )
    scores = score(samples)
    if not bool(jnp.isfinite(scores).all()):
        yield "reward is finite", np.inf
    yield "reward under more padding", jnp.abs(score(padded) - scores).max()
    turned = jax.tree.map(lambda leaf: leaf[::-1], samples)
    yield "reward whatever its batch mates", jnp.abs(score(turned)[::-1] - scores).max()


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

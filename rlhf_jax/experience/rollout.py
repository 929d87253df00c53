"""The experience of PPO: responses, their rewards, and what each token was worth.

    r(x, y) - β Σ_t log(π_old(y_t)/π_ref(y_t))        (InstructGPT eq. 2, per token)

Old, reference and current logprobs come from the same training forward, so that with
policy = reference the KL is exactly 0 and the first ratio exactly 1. The sampler's own
logprobs are kept only to measure the gap between the two.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.losses import (
    generalized_advantages,
    kl_estimate,
    masked_mean,
    masked_whiten,
    shaped_rewards,
)
from rlhf_jax.models.responses import (
    response_hidden,
    response_kl,
    response_statistics,
    response_values,
)
from rlhf_jax.registry.ensemble import reward_scores

__all__ = ["RewardShaping", "advantages_of", "make_assess", "rollout_metrics"]


@dataclasses.dataclass
class RewardShaping:
    """From a response's score to the advantage of each of its tokens."""

    # γ of the returns; InstructGPT C.4: no discount
    discount: float = 1.0
    # λ of GAE; NOT STATED by InstructGPT, 0.95 in Stiennon 2020 B.1
    gae_lambda: float = 0.95
    # divide rewards by their standard deviation, mean kept; NOT STATED, off as in
    # Huang et al. 2024 (N+ details); Ziegler 2019 had it on
    whiten_rewards: bool = False
    # advantages to mean 0 and standard deviation 1 over the rollout batch; NOT STATED,
    # on as in Ziegler 2019 and Stiennon 2020 (there per minibatch)
    whiten_advantages: bool = True
    # score of a response without an end token; None: whatever the reward model says.
    # NOT STATED; Ziegler 2019 and N+ use -1
    missing_end_score: float | None = None

    def problems(self):
        """Values out of range, one line each."""
        for name in ("discount", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                yield f"{name}: {getattr(self, name)} is not in [0, 1]"


def make_assess(
    policy: Any, reward: Any, value: Any, *, temperature: float
) -> Callable[[dict, dict], dict]:
    """What the four models say about sampled responses, in one jitted program.

    Args:
      policy: `LanguageModel`; also the reference.
      reward: `ScalarModel` or `Ensemble`; None when scores come from a callable.
      value: `ScalarModel`.
      temperature: that sampled the responses.

    Returns:
      `(params, samples) -> assessed`; params has `policy`, `reference`, `reward`
      and `value`; samples has `prompts`, `valid`, `tokens`, `mask`, `finished`.
      Assessed is samples with `old_logprobs`, `ref_logprobs`, `entropy`, `exact_kl`,
      `old_values` [B,R] and, with a reward model, `scores` [B]; with an ensemble also
      `score_spread` [B].
    """

    def assess(params: dict, samples: dict) -> dict:
        hidden = response_hidden(policy, params["policy"], samples)
        ref_hidden = response_hidden(policy, params["reference"], samples)
        statistics = response_statistics(
            policy,
            params["policy"],
            samples,
            temperature=temperature,
            with_entropy=True,
            hidden=hidden,
        )
        reference = response_statistics(
            policy,
            params["reference"],
            samples,
            temperature=temperature,
            hidden=ref_hidden,
        )
        assessed = dict(
            samples,
            old_logprobs=statistics.logprobs,
            ref_logprobs=reference.logprobs,
            entropy=statistics.entropy,
            exact_kl=response_kl(
                policy,
                params["policy"],
                params["reference"],
                hidden,
                ref_hidden,
                temperature=temperature,
            ),
            old_values=response_values(value, params["value"], samples),
        )
        if reward is not None:
            assessed |= reward_scores(reward, params["reward"], samples)
        return assessed

    return jax.jit(assess)


def advantages_of(
    assessed: dict, kl_coef: Float[Array, ""], shaping: RewardShaping
) -> dict:
    """Scores and logprobs -> rewards -> advantages and returns.

    A response whose score is not finite takes no part: its mask becomes empty, as if
    it had not been sampled, and `bad_scores` counts it.

    Args:
      assessed: of `make_assess`, with `scores` [B].
      kl_coef: β, scalar.
      shaping: how.

    Returns:
      `assessed` with `rewards`, `advantages`, `returns` [B,R], and the mask without
      the rows whose score is not finite.

    Raises:
      TypeError: integer scores; they have lost their fraction somewhere.
    """
    scores = assessed["scores"]
    if not jnp.issubdtype(scores.dtype, jnp.floating):
        raise TypeError(f"scores must be floating point, got {scores.dtype}")
    if shaping.missing_end_score is not None:
        scores = jnp.where(assessed["finished"], scores, shaping.missing_end_score)
    good = jnp.isfinite(scores)
    mask = assessed["mask"] & good[:, None]
    scores = jnp.where(good, scores, 0.0)
    rewards = shaped_rewards(
        scores,
        assessed["old_logprobs"],
        assessed["ref_logprobs"],
        mask,
        kl_coef=kl_coef,
    )
    if shaping.whiten_rewards:
        rewards = masked_whiten(rewards, mask, shift_mean=False)
    advantages, returns = generalized_advantages(
        rewards,
        assessed["old_values"],
        mask,
        discount=shaping.discount,
        gae_lambda=shaping.gae_lambda,
    )
    if shaping.whiten_advantages:
        advantages = masked_whiten(advantages, mask)
    return dict(
        assessed,
        scores=scores,
        mask=mask,
        scored=good,
        rewards=rewards,
        advantages=advantages,
        returns=returns,
    )


def rollout_metrics(rollout: dict) -> dict[str, Float[Array, ""]]:
    """The numbers of a rollout that a person watches.

    Sums over the tokens of a response are averaged over responses (nats per episode);
    `kl_error` is the standard error of `kl` over responses, `member_spread` the mean
    standard deviation of a score over the members of an ensemble.
    """
    mask, scored = rollout["mask"], rollout["scored"]
    ratio = rollout["old_logprobs"], rollout["ref_logprobs"]
    per_episode = {
        "kl": kl_estimate(*ratio, kind="k1"),
        "kl_k3": kl_estimate(*ratio, kind="k3"),
        "kl_exact": rollout["exact_kl"],
        "reward": rollout["rewards"],
    }
    sums = {
        name: jnp.where(mask, value, 0.0).sum(axis=1)
        for name, value in per_episode.items()
    }
    metrics = {name: masked_mean(value, scored) for name, value in sums.items()}
    count = jnp.maximum(scored.sum(), 1)
    for name in ("kl", "kl_exact"):
        spread = jnp.square(sums[name] - metrics[name])
        metrics[f"{name}_error"] = jnp.sqrt(masked_mean(spread, scored) / count)
    lengths = rollout["mask"].sum(axis=1).astype(jnp.float32)
    gap = jnp.abs(rollout["old_logprobs"] - rollout["sampler_logprobs"])
    residual = rollout["returns"] - rollout["old_values"]
    spread = _variance(rollout["returns"], mask)
    explained = 1.0 - _variance(residual, mask) / jnp.maximum(spread, 1e-8)
    if "score_spread" in rollout:
        metrics["member_spread"] = masked_mean(rollout["score_spread"], scored)
    return metrics | {
        "score": masked_mean(rollout["scores"], scored),
        "score_std": jnp.sqrt(_variance(rollout["scores"], scored)),
        "entropy": masked_mean(rollout["entropy"], mask),
        "length": masked_mean(lengths, scored),
        "truncated": masked_mean((~rollout["finished"]).astype(jnp.float32), scored),
        "repetition": masked_mean(_repeats(rollout["tokens"], mask), mask),
        "value_explained_variance": explained,
        "sampler_gap": masked_mean(gap, mask),
        "sampler_gap_max": jnp.where(mask, gap, 0.0).max(),
        "bad_scores": (~scored).sum().astype(jnp.float32),
    }


def _variance(values: Array, mask: Array) -> Array:
    return masked_mean(jnp.square(values - masked_mean(values, mask)), mask)


def _repeats(tokens: Array, mask: Array) -> Float[Array, "B R"]:
    """1 where a token pair already stood earlier in the response, else 0."""
    previous = jnp.pad(tokens, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    same = (tokens[:, :, None] == tokens[:, None, :]) & (
        previous[:, :, None] == previous[:, None, :]
    )
    earlier = jnp.tril(jnp.ones(same.shape[1:], bool), k=-1)[None]
    seen = (same & earlier & mask[:, None, :]).any(axis=-1)
    return (seen & mask).astype(jnp.float32)

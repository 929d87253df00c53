"""The numbers of a rollout that a person watches."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.losses import kl_estimate, masked_mean
from rlhf_jax.sampling import repeated_pairs

__all__ = ["rollout_metrics"]


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
    if "old_values" in rollout:
        residual = rollout["returns"] - rollout["old_values"]
        spread = jnp.maximum(_variance(rollout["returns"], mask), 1e-8)
        explained = 1.0 - _variance(residual, mask) / spread
        metrics["value_explained_variance"] = explained
    if "score_spread" in rollout:
        metrics["member_spread"] = masked_mean(rollout["score_spread"], scored)
    return metrics | {
        "score": masked_mean(rollout["scores"], scored),
        "score_std": jnp.sqrt(_variance(rollout["scores"], scored)),
        "entropy": masked_mean(rollout["entropy"], mask),
        "length": masked_mean(lengths, scored),
        "truncated": masked_mean((~rollout["finished"]).astype(jnp.float32), scored),
        "repetition": masked_mean(repeated_pairs(rollout["tokens"], mask), mask),
        "sampler_gap": masked_mean(gap, mask),
        "sampler_gap_max": jnp.where(mask, gap, 0.0).max(),
        "bad_scores": (~scored).sum().astype(jnp.float32),
    }


def _variance(values: Array, mask: Array) -> Array:
    return masked_mean(jnp.square(values - masked_mean(values, mask)), mask)

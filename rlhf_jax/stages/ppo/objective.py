"""The terms of one PPO update.

policy   -E_t[ min(ρ_t Â_t, clip(ρ_t, 1 - ε, 1 + ε) Â_t) ],  ρ = π_φ / π_old
         + β E_t[ k3(π_φ ‖ π_ref) ] where the KL is a term of the loss (GRPO)
value    c · E_t[ clipped squared error of V against the returns ]
ptx      -γ E_{x ~ D_pretrain}[ log π_φ(x) ]
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from rlhf_jax.losses import (
    clipped_policy_loss,
    clipped_value_loss,
    kl_estimate,
    weighted_sum,
)
from rlhf_jax.models.responses import response_statistics, response_values
from rlhf_jax.stages import likelihood
from rlhf_jax.stages.ppo.config import Config

__all__ = ["make_loss"]


def make_loss(policy: Any, value: Any, config: Config) -> dict[str, Callable]:
    """The terms of one update: policy, with a value model value, with γ > 0 ptx.

    The gradients of the terms are added in one step; ptx and policy share parameters,
    the value function has its own.

    Args:
      policy: `LanguageModel`.
      value: `ScalarModel`, or None.
      config: `clip_range`, `value_clip_range`, `value_coef`, `ptx_coef`,
        `temperature`, `kl.place`.

    Returns:
      term name -> `(params, batch, rng) -> (sum, metrics)` for `make_update`; params
      has `policy` and `value`; the batch has `rollout` (prompts, valid, tokens, mask,
      old_logprobs, advantages; with a value model old_values and returns; with the KL
      in the loss ref_logprobs), `ptx` (tokens, valid, mask) and the numbers
      `policy_on`, 0 of which freezes the policy while the value warms up, and
      `kl_coef`, β of the loss.
    """

    def surrogate(params: dict, batch: dict, rng: Array) -> tuple[Array, dict]:
        del rng
        rollout = batch["rollout"]
        weights = rollout["weights"]
        logprobs = response_statistics(
            policy, params["policy"], rollout, temperature=config.temperature
        ).logprobs
        losses = clipped_policy_loss(
            logprobs,
            rollout["old_logprobs"],
            rollout["advantages"],
            clip_range=config.clip_range,
        )
        if config.kl.place == "loss":
            price = kl_estimate(logprobs, rollout["ref_logprobs"], kind="k3")
            losses = losses + batch["kl_coef"] * price
        log_ratio = jnp.where(rollout["mask"], logprobs - rollout["old_logprobs"], 0.0)
        ratio = jnp.exp(log_ratio)
        outside = jnp.abs(ratio - 1.0) > config.clip_range
        metrics = {
            "ratio": weighted_sum(ratio, weights),
            "clip_fraction": weighted_sum(outside.astype(jnp.float32), weights),
            "update_kl": weighted_sum(ratio - 1.0 - log_ratio, weights),
        }
        return batch["policy_on"] * weighted_sum(losses, weights), metrics

    def value_error(params: dict, batch: dict, rng: Array) -> tuple[Array, dict]:
        del rng
        rollout = batch["rollout"]
        losses = clipped_value_loss(
            response_values(value, params["value"], rollout),
            rollout["old_values"],
            rollout["returns"],
            clip_range=config.value_clip_range,
        )
        return config.value_coef * weighted_sum(losses, rollout["weights"]), {}

    terms = {"surrogate": surrogate}
    if value is not None:
        terms["value_error"] = value_error
    if config.ptx_coef > 0:
        pretraining_loss = likelihood.make_loss(policy)

        def ptx(params: dict, batch: dict, rng: Array) -> tuple[Array, dict]:
            loss, _ = pretraining_loss(params["policy"], batch["ptx"], rng)
            coefficient = config.ptx_coef * batch["policy_on"]
            return coefficient * loss, {"ptx_nats_per_token": loss}

        terms["ptx"] = ptx
    return terms

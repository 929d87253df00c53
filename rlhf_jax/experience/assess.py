"""What policy, reference, reward and value say of responses, in one program.

Old, reference and current logprobs come from the same training forward, so that with
policy = reference the KL is exactly 0 and the first ratio exactly 1. The sampler's own
logprobs are kept only to measure the gap between the two.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.models.responses import (
    response_comparison,
    response_values,
)
from rlhf_jax.parallel import compile_function
from rlhf_jax.registry.ensemble import reward_scores

__all__ = ["make_assess", "make_distance"]


def make_assess(
    policy: Any, reward: Any, value: Any, *, temperature: float
) -> Callable[[dict, dict], dict]:
    """What the four models say about sampled responses, in one jitted program.

    Args:
      policy: `LanguageModel`; also the reference.
      reward: `ScalarModel` or `Ensemble`; None when scores come from a callable.
      value: `ScalarModel`; None where no token's value is asked for.
      temperature: that sampled the responses.

    Returns:
      `(params, samples) -> assessed`; params has `policy`, `reference`, `reward`
      and `value`; samples has `prompts`, `valid`, `tokens`, `mask`, `finished`.
      Assessed is samples with `old_logprobs`, `ref_logprobs`, `entropy`, `exact_kl`
      and, with a value model, `old_values` [B,R]; with a reward model `scores` [B],
      with an ensemble also `score_spread` [B].
    """

    def assess(params: dict, samples: dict) -> dict:
        told = response_comparison(
            policy,
            params["policy"],
            params["reference"],
            samples,
            temperature=temperature,
        )
        assessed = dict(
            samples,
            old_logprobs=told.logprobs,
            ref_logprobs=told.ref_logprobs,
            entropy=told.entropy,
            exact_kl=told.kl,
        )
        if value is not None:
            assessed["old_values"] = response_values(value, params["value"], samples)
        if reward is not None:
            assessed |= reward_scores(reward, params["reward"], samples)
        return assessed

    return jax.jit(assess)


def make_distance(model: Any) -> Callable[[Any, Any, dict], Float[Array, " B"]]:
    """`(params, ref_params, samples) -> KL(π ‖ π_ref)` of each response, in nats.

    It runs where the params lie.

    Σ_t KL(π(·|s_t) ‖ π_ref(·|s_t)) over the tokens that the policy wrote, at
    temperature 1; its mean estimates the KL of the two policies with less noise than
    log-ratios.

    Args:
      model: `LanguageModel` of both, without dropout.
    """

    def distance(params: Any, ref_params: Any, samples: dict) -> Float[Array, " B"]:
        per_token = response_comparison(
            model, params, ref_params, samples, temperature=1.0
        ).kl
        return jnp.where(samples["mask"], per_token, 0.0).sum(axis=1)

    program = compile_function(
        lambda models, samples: distance(*models, samples),
    )

    def on_rows(params: Any, ref_params: Any, samples: dict) -> Float[Array, " B"]:
        names = ("prompts", "valid", "tokens", "mask")
        return program((params, ref_params), {name: samples[name] for name in names})

    return on_rows

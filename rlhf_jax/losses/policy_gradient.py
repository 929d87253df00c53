"""Proximal policy optimisation: the policy's and the value function's loss, per token.

    ρ_t = π(y_t|·) / π_old(y_t|·)

π_old is the policy that sampled. Both logprobs come from the same forward pass at the
sampler's temperature, so that before the first update every ratio is exactly 1.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.losses.arguments import guarded, real, same_shape, scalar


def clipped_policy_loss(
    logprobs: Float[Array, "*shape"],
    old_logprobs: Float[Array, "*shape"],
    advantages: Float[Array, "*shape"],
    *,
    clip_range: float | Float[Array, ""],
) -> Float[Array, "*shape"]:
    """PPO's clipped surrogate as a loss.

        -min( ρ_t Â_t , clip(ρ_t, 1 - ε, 1 + ε) Â_t )

    Args:
      logprobs: log π of the current policy, nats.
      old_logprobs: log π_old, a constant.
      advantages: Â, a constant; in the unit of the rewards, or without when whitened.
      clip_range: ε (0.2 in InstructGPT: App. C.4); inf turns clipping off.

    Returns:
      float32, in the unit of the advantages; -Â where the logprobs are equal.

    Raises:
      ValueError: the shapes differ.
      TypeError: integer arguments.

    Source: Schulman et al. 2017 (PPO), Eq. 7, negated.

    >>> clipped_policy_loss(jnp.log(jnp.array([1.5, 1.5])), jnp.zeros(2),
    ...                     jnp.array([2.0, -2.0]), clip_range=0.2).round(3).tolist()
    [-2.4..., 3.0...]
    """
    logprobs, old_logprobs, advantages = real(
        logprobs=logprobs, old_logprobs=old_logprobs, advantages=advantages
    )
    same_shape(logprobs=logprobs, old_logprobs=old_logprobs, advantages=advantages)
    clip_range = scalar(clip_range, logprobs)
    return _clipped_policy_loss(logprobs, old_logprobs, advantages, clip_range)


@guarded
def _clipped_policy_loss(
    logprobs: Array, old_logprobs: Array, advantages: Array, clip_range: Array
) -> Array:
    # The same minimum, taken before the exponential: where Â ≥ 0 only the upper bound
    # can act, where Â < 0 only the lower. The branch not taken then never overflows,
    # and its 0 · inf cannot turn the gradient into NaN.
    log_ratio = logprobs - old_logprobs
    upper = jnp.log1p(clip_range)
    lower = jnp.log(jnp.maximum(1 - clip_range, 0))
    pessimistic = jnp.where(
        advantages >= 0,
        jnp.where(log_ratio > upper, upper, log_ratio),
        jnp.where(log_ratio < lower, lower, log_ratio),
    )
    return -advantages * jnp.exp(pessimistic)


def clipped_value_loss(
    values: Float[Array, "*shape"],
    old_values: Float[Array, "*shape"],
    returns: Float[Array, "*shape"],
    *,
    clip_range: float | Float[Array, ""],
) -> Float[Array, "*shape"]:
    """The value function's squared error, pessimistic about large steps.

        ½ max( (V - R̂)² , (clip(V, V_old - ε, V_old + ε) - R̂)² )

    Args:
      values: V of the current value function, in the unit of the returns.
      old_values: V_old of the one that made the advantages, a constant.
      returns: R̂ of `generalized_advantages`, a constant.
      clip_range: ε, in the unit of the returns; inf turns clipping off.

    Returns:
      float32, in the square of the unit of the returns, ≥ 0.

    Raises:
      ValueError: the shapes differ.
      TypeError: integer arguments.

    Source: openai/lm-human-preferences (ε = 0.2, the factor ½); Huang et al. 2023,
      detail 19; not stated in Ouyang et al. 2022.

    >>> clipped_value_loss(jnp.array([1.0]), jnp.array([0.0]), jnp.array([1.0]),
    ...                    clip_range=0.2).round(3).tolist()
    [0.32...]
    """
    values, old_values, returns = real(
        values=values, old_values=old_values, returns=returns
    )
    same_shape(values=values, old_values=old_values, returns=returns)
    clip_range = scalar(clip_range, values)
    return _clipped_value_loss(values, old_values, returns, clip_range)


@guarded
def _clipped_value_loss(
    values: Array, old_values: Array, returns: Array, clip_range: Array
) -> Array:
    clipped = jnp.clip(values, old_values - clip_range, old_values + clip_range)
    squares = jnp.square(values - returns), jnp.square(clipped - returns)
    return jnp.maximum(*squares) / 2

"""Preferences without a reward model and without a reference.

Both losses take the mean logprob of a response, log π(y|x) / |y|: without a reference
a sum over tokens would favour short responses.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.losses.arguments import guarded, real, same_shape, scalar


def simpo_loss(
    chosen_mean_logprobs: Float[Array, " B"],
    rejected_mean_logprobs: Float[Array, " B"],
    *,
    beta: float | Float[Array, ""],
    margin: float | Float[Array, ""],
) -> Float[Array, " B"]:
    """The SimPO loss, per pair.

        -log σ( β/|y_w| · log π(y_w) - β/|y_l| · log π(y_l) - γ )

    Args:
      chosen_mean_logprobs: log π(y_w|x) / |y_w|, nats per token: the *mean* over the
        response's tokens.
      rejected_mean_logprobs: log π(y_l|x) / |y_l|, likewise.
      beta: β, log-odds per nat (2.0 to 2.5 in the paper).
      margin: γ, log-odds by which the chosen response should win (0.3 to 1.6).

    Returns:
      float32, nats.

    Raises:
      ValueError: the shapes differ.
      TypeError: integer logprobs.

    Source: Meng et al. 2024 (SimPO), Eq. 6.

    >>> simpo_loss(jnp.array([-1.0]), jnp.array([-1.5]), beta=2.0, margin=1.0
    ...           ).round(4).tolist()
    [0.693...]
    """
    chosen, rejected = _pair(chosen_mean_logprobs, rejected_mean_logprobs)
    return _simpo_loss(chosen, rejected, scalar(beta, chosen), scalar(margin, chosen))


@guarded
def _simpo_loss(chosen: Array, rejected: Array, beta: Array, margin: Array) -> Array:
    return -jax.nn.log_sigmoid(beta * (chosen - rejected) - margin)


def orpo_loss(
    chosen_mean_logprobs: Float[Array, " B"],
    rejected_mean_logprobs: Float[Array, " B"],
    *,
    odds_weight: float | Float[Array, ""],
) -> Float[Array, " B"]:
    """The ORPO loss, per pair: supervised fine-tuning and an odds ratio in one.

        -log P_w - λ · log σ( log odds(P_w) - log odds(P_l) )

        odds(P) = P / (1 - P) ,   log P = log π(y|x) / |y|

    Args:
      chosen_mean_logprobs: log P_w, nats per token: the *mean* over the response's
        tokens. The first term is the chosen response's loss of SFT.
      rejected_mean_logprobs: log P_l, likewise.
      odds_weight: λ (0.1 in the paper for Mistral 7B).

    Returns:
      float32, nats; NaN where a logprob is positive. 1 - P is held at 2⁻²⁴ or more
      (the step of float32 below 1), so that odds are finite; the odds of a P beyond
      it have gradient 0.

    Raises:
      ValueError: the shapes differ.
      TypeError: integer logprobs.

    Source: Hong et al. 2024 (ORPO), Eqs. 1, 4, 6 and 7.

    >>> same = jnp.log(jnp.array([0.5]))
    >>> orpo_loss(same, same, odds_weight=1.0).round(4).tolist()
    [1.386...]
    """
    chosen, rejected = _pair(chosen_mean_logprobs, rejected_mean_logprobs)
    return _orpo_loss(chosen, rejected, scalar(odds_weight, chosen))


@guarded
def _orpo_loss(chosen: Array, rejected: Array, odds_weight: Array) -> Array:
    log_odds_ratio = _log_odds(chosen) - _log_odds(rejected)
    return -chosen - odds_weight * jax.nn.log_sigmoid(log_odds_ratio)


def _log_odds(logprobs: Array) -> Array:
    """log P - log(1 - P), precise at both ends."""
    below = jnp.minimum(logprobs, -jnp.finfo(logprobs.dtype).epsneg)
    log_rest = jnp.where(
        below > -0.5, jnp.log(-jnp.expm1(below)), jnp.log1p(-jnp.exp(below))
    )
    return jnp.where(logprobs > 0, jnp.nan, below - log_rest)


def _pair(chosen: Array, rejected: Array) -> list[Array]:
    arguments = {"chosen_mean_logprobs": chosen, "rejected_mean_logprobs": rejected}
    same_shape(**arguments)
    return real(**arguments)

"""One score from several reward models, cautious where they disagree.

A policy that is optimised against a reward model finds what that model overrates.
Models that differ only in their seed rarely overrate the same thing.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.losses.arguments import guarded, real, scalar


def ensemble_mean(scores: Float[Array, "E B"]) -> Float[Array, " B"]:
    """The mean over the ensemble.

        R(x, y) = 1/E · Σᵢ rᵢ(x, y)

    Args:
      scores: of E reward models; bring them to one scale first.

    Returns:
      float32, in the unit of the scores.

    Raises:
      ValueError: not [E, B]. TypeError: integer scores.

    Source: Coste et al. 2023, §3.

    >>> ensemble_mean(jnp.array([[1.0], [3.0]])).tolist()
    [2.0]
    """
    return _mean(_members(scores).T)


def ensemble_min(scores: Float[Array, "E B"]) -> Float[Array, " B"]:
    """Worst-case optimisation (WCO): the least of the ensemble's scores.

        R(x, y) = minᵢ rᵢ(x, y)

    Args:
      scores: of E reward models.

    Returns:
      float32, in the unit of the scores; NaN if any member's is.

    Raises:
      ValueError: not [E, B]. TypeError: integer scores.

    Source: Coste et al. 2023, §3.

    >>> ensemble_min(jnp.array([[1.0], [3.0]])).tolist()
    [1.0]
    """
    return _min(_members(scores).T)


def ensemble_uncertainty_weighted(
    scores: Float[Array, "E B"], *, variance_coef: float | Float[Array, ""]
) -> Float[Array, " B"]:
    """Uncertainty-weighted optimisation (UWO): the mean less the members' variance.

        R(x, y) = μ - λ · 1/E · Σᵢ (rᵢ(x, y) - μ)²,   μ the mean over i

    Args:
      scores: of E reward models.
      variance_coef: λ, one over the unit of the scores (0.5 for best-of-n, 0.1 for
        PPO in the released code).

    Returns:
      float32, in the unit of the scores.

    Raises:
      ValueError: not [E, B]. TypeError: integer scores.

    Source: Coste et al. 2023, §3: variance with 1/E. (Their released code divides
      by E - 1.)

    >>> ensemble_uncertainty_weighted(
    ...     jnp.array([[1.0], [3.0]]), variance_coef=0.5).tolist()
    [1.5]
    """
    members = _members(scores).T
    return _mean(members) - scalar(variance_coef, members) * _variance(members)


def _members(scores: Array) -> Array:
    (scores,) = real(scores=scores)
    if scores.ndim != 2 or scores.shape[0] == 0:
        raise ValueError(f"scores has shape {scores.shape}: expected [E, B], E > 0")
    return scores


# Of [B, E]: one value per response, so that the guard knows what a weight falls on.
_mean = guarded(lambda members: jnp.mean(members, axis=1))
_min = guarded(lambda members: jnp.min(members, axis=1))
_variance = guarded(lambda members: jnp.var(members, axis=1))

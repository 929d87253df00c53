"""Advantages without a value model: each response against others of its prompt.

G responses of one prompt are a group. The scores of the others are the baseline, so no
value model is trained. The result is one number per response: the advantage of each of
its tokens.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.losses.arguments import guarded, real, same_shape, scalar

# Added to the deviation of a group, in the unit of the scores: huggingface/trl.
GROUP_EPSILON = 1e-4


def leave_one_out_advantages(
    scores: Float[Array, "P G"], valid: Bool[Array, "P G"]
) -> Float[Array, "P G"]:
    """RLOO: the score less the mean score of the other responses of the prompt.

        Â_i = r_i - 1/(n-1) · Σ_{j ≠ i} r_j        n valid responses of the prompt

    The baseline does not contain r_i, so the policy gradient stays unbiased.

    Args:
      scores: r of each response; in the paper the reward less the KL price of the
        whole response, r_θ - β (log π - log π_ref), summed over its tokens.
      valid: responses that have a score; other entries are ignored, NaN included.

    Returns:
      float32, in the unit of the scores; exactly 0 where not valid, where no other
      response of the prompt is, and where all valid scores of the prompt are equal.

    Raises:
      ValueError: the shapes differ or are not [P, G] with G > 0.
      TypeError: integer scores.

    Source: Ahmadian et al. 2024 (Back to Basics), RLOO; Kool et al. 2019.

    >>> leave_one_out_advantages(jnp.array([[1.0, 2.0, 6.0]]),
    ...                          jnp.array([[True, True, True]])).tolist()
    [[-3.0, -1.5, 4.5]]
    """
    scores, valid = _groups(scores, valid)
    centred, count = _centred(scores, valid)
    # r_i - (n μ - r_i) / (n - 1) = n / (n - 1) · (r_i - μ)
    return centred * (count / jnp.maximum(count - 1, 1))


def group_advantages(
    scores: Float[Array, "P G"],
    valid: Bool[Array, "P G"],
    *,
    scale: bool = True,
    epsilon: float | Float[Array, ""] = GROUP_EPSILON,
) -> Float[Array, "P G"]:
    """GRPO: the score less the group's mean, divided by the group's deviation.

        Â_i = (r_i - μ) / (σ + ε)        scale=True:  GRPO
        Â_i =  r_i - μ                   scale=False: Dr. GRPO

        μ = 1/n · Σ_j r_j ,   σ² = 1/(n-1) · Σ_j (r_j - μ)²    n valid responses

    The division gives prompts whose responses score almost alike (too easy, too hard)
    the weight of all others; Dr. GRPO omits it for that reason.

    Args:
      scores: r of each response, without a KL price: GRPO's stands in the loss, as
        `kl_estimate(kind="k3")`.
      valid: responses that have a score; other entries are ignored, NaN included.
      scale: divide by σ + ε.
      epsilon: ε, in the unit of the scores.

    Returns:
      float32, without unit (scale=False: in that of the scores); exactly 0 where not
      valid, where no other response of the prompt is, and where all valid scores of
      the prompt are equal.

    Raises:
      ValueError: the shapes differ or are not [P, G] with G > 0.
      TypeError: integer scores.

    Source: Shao et al. 2024 (DeepSeekMath), §4.1.2, outcome supervision; without the
      division: Liu et al. 2025 (Dr. GRPO). The paper says neither which deviation nor
      any ε: n - 1 as huggingface/trl and verl compute it, ε = 1e-4 as TRL (verl: 1e-6).

    >>> scores, valid = jnp.array([[1.0, 2.0, 6.0]]), jnp.ones((1, 3), bool)
    >>> group_advantages(scores, valid, scale=False).tolist()
    [[-2.0, -1.0, 3.0]]
    >>> group_advantages(scores, valid).round(3).tolist()
    [[-0.75..., -0.37..., 1.13...]]
    """
    scores, valid = _groups(scores, valid)
    if scale:
        return _scaled(scores, valid, scalar(epsilon, scores))
    return _centred(scores, valid)[0]


def _groups(scores: Array, valid: Array) -> tuple[Array, Array]:
    (scores,) = real(scores=scores)
    same_shape(scores=scores, valid=valid)
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise ValueError(f"scores has shape {scores.shape}: expected [P, G] with G > 0")
    return scores, jnp.asarray(valid).astype(jnp.bool_)


def _centred(scores: Array, valid: Array) -> tuple[Array, Array]:
    """(r - μ, n) of each group: [P, G] and [P, 1]."""
    # Counted from the best score: equal scores have the mean 0 without any rounding.
    best = jnp.max(jnp.where(valid, scores, -jnp.inf), axis=1, keepdims=True)
    below = jnp.where(valid, scores - jax.lax.stop_gradient(best), 0)
    count = jnp.sum(valid, axis=1, keepdims=True).astype(scores.dtype)
    mean = jnp.sum(below, axis=1, keepdims=True) / jnp.maximum(count, 1)
    return jnp.where(valid & (count > 1), below - mean, 0), count


def _divided(scores: Array, valid: Array, epsilon: Array) -> Array:
    centred, count = _centred(scores, valid)
    squares = jnp.sum(jnp.square(centred), axis=1, keepdims=True)
    variance = squares / jnp.maximum(count - 1, 1)
    # The square root of 0 has no gradient; NaN stays NaN through `centred`.
    varied = variance > 0
    deviation = jnp.where(varied, jnp.sqrt(jnp.where(varied, variance, 1)), 0)
    return centred / (deviation + epsilon)


_scaled = guarded(_divided, by_row=True)

"""The reward model's loss: K responses of one prompt, ranked by a person.

    loss(θ) = -1/C(K,2) · E[ log σ( r_θ(x, y_w) - r_θ(x, y_l) ) ]

A prompt is one batch element: each response is scored once, all its pairs come from
those K scores, and every prompt weighs the same however many responses it has.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.losses.arguments import guarded, real, same_shape

__all__ = [
    "pairwise_ranking_loss",
    "ranking_accuracy",
    "ranking_loss",
    "untied_pairs",
]


def untied_pairs(
    ranks: Int[Array, "B K"], valid: Bool[Array, "B K"]
) -> Bool[Array, "B K K"]:
    """Which pairs of a prompt say something: entry [b, w, l] is "w beats l".

    Args:
      ranks: 1 is best; equal ranks are ties; any number at padding.
      valid: a real response.

    Returns:
      True where both are real and rank w < rank l. At most C(K,2) per prompt.

    Raises:
      ValueError: the shapes differ or are not [B, K].
      TypeError: ranks that are not integers.

    >>> untied_pairs(jnp.array([[1, 2, 2]]), jnp.ones((1, 3), bool)).sum().item()
    2
    """
    ranks, valid = jnp.asarray(ranks), jnp.asarray(valid).astype(jnp.bool_)
    same_shape(ranks=ranks, valid=valid)
    if ranks.ndim != 2:
        raise ValueError(f"ranks has shape {ranks.shape}: expected [B, K]")
    if not jnp.issubdtype(ranks.dtype, jnp.integer):
        raise TypeError(f"ranks must be integers, got {ranks.dtype}")
    better = ranks[:, :, None] < ranks[:, None, :]
    return better & valid[:, :, None] & valid[:, None, :]


def ranking_loss(
    scores: Float[Array, "B K"], ranks: Int[Array, "B K"], valid: Bool[Array, "B K"]
) -> Float[Array, " B"]:
    """The K-wise ranking loss of a reward model, per prompt.

        1/|pairs| · Σ_{(w,l) ∈ pairs} -log σ(r_w - r_l)

    `pairs` are the pairs of real responses that are not tied: C(K,2) of them for K
    responses in strict order. K may differ from prompt to prompt.

    Args:
      scores: r_θ(x, y), in nats of log-odds: σ of a difference is the probability
        that the first is preferred.
      ranks: 1 is best; equal ranks are ties; any number at padding.
      valid: a real response; scores at padding are ignored, NaN included.

    Returns:
      float32, nats; log 2 for equal scores; 0 where no pair is left.

    Raises:
      ValueError: the shapes differ or are not [B, K].
      TypeError: integer scores, or ranks that are not integers.

    Source: Ouyang et al. 2022, Eq. 1; ties are dropped: App. C.2.
    Differs: with ties the mean is over the pairs that are left, so that a prompt's
      weight does not depend on how many ties its labeler gave; the paper does not
      say what it divides by there.

    >>> scores, ranks = jnp.array([[2.0, 0.0, 1.0]]), jnp.array([[1, 3, 2]])
    >>> ranking_loss(scores, ranks, jnp.ones((1, 3), bool)).round(4).tolist()
    [0.251...]
    """
    (scores,) = real(scores=scores)
    same_shape(scores=scores, ranks=ranks, valid=valid)
    return _ranking_loss(scores, untied_pairs(ranks, valid))


@guarded
def _ranking_loss(scores: Array, pairs: Array) -> Array:
    used = jnp.any(pairs, axis=1) | jnp.any(pairs, axis=2)
    scores = jnp.where(used, scores, 0)
    margins = scores[:, :, None] - scores[:, None, :]
    losses = jnp.where(pairs, -jax.nn.log_sigmoid(margins), 0)
    count = jnp.sum(pairs, axis=(1, 2)).astype(scores.dtype)
    return jnp.sum(losses, axis=(1, 2)) / jnp.maximum(count, 1)


def pairwise_ranking_loss(
    chosen: Float[Array, " B"], rejected: Float[Array, " B"]
) -> Float[Array, " B"]:
    """The ranking loss of one pair: K = 2.

        -log σ(r_w - r_l)

    Args:
      chosen: scores r_w of the preferred responses.
      rejected: scores r_l of the others.

    Returns:
      float32, nats.

    Raises:
      ValueError: the shapes differ.
      TypeError: integer scores.

    Source: Ouyang et al. 2022, Eq. 1 with K = 2; Bradley and Terry 1952.

    >>> pairwise_ranking_loss(jnp.array([0.0]), jnp.array([0.0])).round(4).tolist()
    [0.693...]
    """
    chosen, rejected = real(chosen=chosen, rejected=rejected)
    same_shape(chosen=chosen, rejected=rejected)
    return _pairwise_ranking_loss(chosen, rejected)


@guarded
def _pairwise_ranking_loss(chosen: Array, rejected: Array) -> Array:
    return -jax.nn.log_sigmoid(chosen - rejected)


def ranking_accuracy(
    scores: Float[Array, "B K"], ranks: Int[Array, "B K"], valid: Bool[Array, "B K"]
) -> Float[Array, " B"]:
    """The share of a prompt's untied pairs that the scores put in the right order.

        1/|pairs| · Σ_{(w,l) ∈ pairs} ( 1[r_w > r_l] + ½ · 1[r_w = r_l] )

    Args:
      scores: r_θ(x, y).
      ranks: 1 is best; equal ranks are ties.
      valid: a real response.

    Returns:
      float32 in [0, 1]; equal scores are worth a half; 0 where no pair is left (mask
      such prompts). NaN scores of real responses give NaN.

    Raises:
      ValueError, TypeError: as `ranking_loss`.

    Source: Ouyang et al. 2022, §4.1 (72.4 % and 69.6 %).

    >>> scores, ranks = jnp.array([[2.0, 0.0, 1.0]]), jnp.array([[1, 2, 3]])
    >>> ranking_accuracy(scores, ranks, jnp.ones((1, 3), bool)).round(4).tolist()
    [0.666...]
    """
    (scores,) = real(scores=scores)
    same_shape(scores=scores, ranks=ranks, valid=valid)
    pairs = untied_pairs(ranks, valid)
    used = jnp.any(pairs, axis=1) | jnp.any(pairs, axis=2)
    scores = jnp.where(used, scores, 0)
    # sign: 1, 0, -1, and NaN for NaN.
    right = (jnp.sign(scores[:, :, None] - scores[:, None, :]) + 1) / 2
    count = jnp.sum(pairs, axis=(1, 2)).astype(scores.dtype)
    return jnp.sum(jnp.where(pairs, right, 0), axis=(1, 2)) / jnp.maximum(count, 1)

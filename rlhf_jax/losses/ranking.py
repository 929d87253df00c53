"""The reward model's loss: K responses of one prompt, ranked by a person.

    loss(θ) = -1/C(K,2) · E[ log σ( r_θ(x, y_w) - r_θ(x, y_l) ) ]

A prompt is one batch element: each response is scored once, all its pairs come from
those K scores, and every prompt weighs the same however many responses it has.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.losses.arguments import guarded, real, same_shape


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
    return _mean_over_pairs(-jax.nn.log_sigmoid(_margins(scores, pairs)), pairs)


def _margins(scores: Array, pairs: Array) -> Array:
    """r_w - r_l at [b, w, l]; scores of responses in no pair count as 0."""
    used = jnp.any(pairs, axis=1) | jnp.any(pairs, axis=2)
    scores = jnp.where(used, scores, 0)
    return scores[:, :, None] - scores[:, None, :]


def _mean_over_pairs(values: Array, pairs: Array) -> Array:
    count = jnp.sum(pairs, axis=(1, 2)).astype(values.dtype)
    total = jnp.sum(jnp.where(pairs, values, 0), axis=(1, 2))
    return total / jnp.maximum(count, 1)


def soft_ranking_loss(
    scores: Float[Array, "B K"],
    preferences: Float[Array, "B K K"],
    pairs: Bool[Array, "B K K"],
) -> Float[Array, " B"]:
    """The ranking loss with probabilities for labels, per prompt: cross-entropy.

        1/|pairs| · Σ_{(i,j) ∈ pairs} -p_ij log σ(r_i - r_j) - (1-p_ij) log σ(r_j - r_i)

    For labels that are probabilities: a language model's P(first is better), averaged
    over both orders, or the share of people who prefer the first. At p = 1 it equals
    `ranking_loss` to the bit; at p = ½ it is least for equal scores.

    Args:
      scores: r(x, y), in nats of log-odds.
      preferences: p_ij at [b, i, j], the probability that response i is preferred to
        response j, in [0, 1]; any number where `pairs` is false, NaN included.
      pairs: the compared pairs. Mark each once, in either order; marked in both, with
        p and 1 - p, it gives the same loss. `untied_pairs` marks those of a ranking.

    Returns:
      float32, nats; log 2 for equal scores; 0 where no pair is marked; NaN for a marked
      p outside [0, 1]. The least it can be is the entropy of the labels.

    Raises:
      ValueError: the shapes are not [B, K], [B, K, K] and [B, K, K].
      TypeError: integer scores or preferences.

    Source: Bradley and Terry 1952 with a soft label; labels of a language model: Bai et
      al. 2022 (Constitutional AI), §4.1; Lee et al. 2023 (RLAIF).

    >>> first_by_3_to_1 = jnp.array([[[0.5, 0.75], [0.25, 0.5]]])
    >>> pairs = jnp.array([[[False, True], [False, False]]])
    >>> soft_ranking_loss(jnp.zeros((1, 2)), first_by_3_to_1, pairs).round(4).tolist()
    [0.693...]
    """
    scores, preferences = real(scores=scores, preferences=preferences)
    same_shape(preferences=preferences, pairs=pairs)
    if scores.ndim != 2 or preferences.shape != (*scores.shape, *scores.shape[1:]):
        raise ValueError(
            f"scores has shape {scores.shape} but preferences has shape "
            f"{preferences.shape}: expected [B, K] and [B, K, K]"
        )
    return _soft_ranking_loss(scores, preferences, jnp.asarray(pairs).astype(jnp.bool_))


@guarded
def _soft_ranking_loss(scores: Array, preferences: Array, pairs: Array) -> Array:
    possible = (preferences >= 0) & (preferences <= 1)
    wins = jnp.where(pairs, jnp.where(possible, preferences, jnp.nan), 1)
    margins = _margins(scores, pairs)
    won, lost = jax.nn.log_sigmoid(margins), jax.nn.log_sigmoid(-margins)
    return _mean_over_pairs(-wins * won - (1 - wins) * lost, pairs)


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
    # sign: 1, 0, -1, and NaN for NaN.
    right = (jnp.sign(_margins(scores, pairs)) + 1) / 2
    return _mean_over_pairs(right, pairs)

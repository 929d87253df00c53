"""One token per row, by inverse transform, with a key that names the token.

Drawing with Gumbel noise needs V random numbers per token. The inverse of the
cumulative distribution needs two, and the exponentials that it sums are those of the
log-normaliser: on a CPU a draw takes a tenth of the time (docs/log.md).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

_COLUMNS = 128  # columns of the two-level search; of one vector register's multiple


def row_keys(key: PRNGKeyArray, row_ids: Int[Array, "B"]) -> PRNGKeyArray:
    """fold_in(key, row_id) per row [B]: a row's randomness has the row's name."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, row_ids)


def token_uniforms(keys: PRNGKeyArray, steps: Int[Array, "B"]) -> Float[Array, "B 2"]:
    """Two numbers in [0, 1) per row, from fold_in(fold_in(key, row_id), t).

    Args:
      keys: [B] of `row_keys`.
      steps: t, the index of the response token each row draws.
    """

    def uniforms(key, step):
        return jax.random.uniform(jax.random.fold_in(key, step), (2,))

    return jax.vmap(uniforms)(keys, steps)


def draw_tokens(
    logits: Float[Array, "B V"], uniforms: Float[Array, "B 2"]
) -> tuple[Int[Array, "B"], Float[Array, "B"]]:
    """Draws from softmax(logits) and gives the log-probability of what was drawn.

    The vocabulary is laid out as rows of 128 columns, token v at row ⌊v/128⌋, column
    v mod 128. One number chooses the column by the columns' sums, the other the row
    within it: P(v) = P(column)·P(row | column). Two levels keep float32 exact enough
    for vocabularies of any size: each sum runs over at most max(128, V/128) terms.

    Args:
      logits: float32; -inf where nothing may be drawn.
      uniforms: two numbers in [0, 1) per row.

    Returns:
      Tokens (int32) and their log-probabilities [nats]. A token of probability 0 is
      never drawn.
    """
    grid = _grid(logits)  # [B, rows, columns]
    largest = jnp.max(jnp.max(grid, axis=1), axis=-1)
    sums = jnp.sum(jnp.exp(grid - largest[:, None, None]), axis=1)
    column = _invert(sums, uniforms[:, 0])
    chosen = jnp.take_along_axis(grid, column[:, None, None], axis=2)[:, :, 0]
    row = _invert(jnp.exp(chosen - largest[:, None]), uniforms[:, 1])
    picked = jnp.take_along_axis(chosen, row[:, None], axis=1)[:, 0]
    logprobs = picked - largest - jnp.log(jnp.sum(sums, axis=-1))
    return (row * grid.shape[2] + column).astype(jnp.int32), logprobs


def first_largest(
    logits: Float[Array, "B V"],
) -> tuple[Int[Array, "B"], Float[Array, "B"]]:
    """Greedy: the first token of the largest logit, and its log-probability [nats].

    As argmax, but by two plain reductions, which a CPU does five times faster
    (docs/log.md).
    """
    size = logits.shape[-1]
    largest = jnp.max(logits, axis=-1)
    ids = jnp.arange(size, dtype=jnp.int32)[None]
    tokens = jnp.min(jnp.where(logits == largest[:, None], ids, size), axis=-1)
    return jnp.minimum(tokens, size - 1), largest - jax.nn.logsumexp(logits, axis=-1)


def _grid(logits):
    """[B, V] -> [B, rows, columns]; the last row is filled with -inf."""
    batch, size = logits.shape
    columns = min(_COLUMNS, size)
    rows = -(-size // columns)
    fill = ((0, 0), (0, rows * columns - size))
    padded = jnp.pad(logits, fill, constant_values=-jnp.inf)
    return padded.reshape(batch, rows, columns)


def _invert(weights, uniform):
    """The first index where Σ weights so far > uniform · Σ weights, of weight > 0.

    The second condition, and the largest weight where none fits, guard against
    parallel prefix sums, which may fall by a rounding error where a weight is 0.
    """
    sums = jnp.cumsum(weights, axis=-1)
    fits = (sums > (uniform * sums[:, -1])[:, None]) & (weights > 0)
    fallback = jnp.argmax(weights, axis=-1)
    return jnp.where(jnp.any(fits, -1), jnp.argmax(fits, axis=-1), fallback)

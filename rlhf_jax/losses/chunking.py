"""How the chunked losses work: project a chunk of tokens, reduce it, forget it.

The reverse pass keeps only the hidden states and projects each chunk again: one more
matrix product in four, for memory that does not grow with the number of tokens. A
single chunk is not rematerialized: its logits are needed at once.

Tokens are dealt to chunks like cards along their last axis (T of [B, T]): chunk i takes
the tokens i, i + count, ... Rows that lie on different devices stay where they are;
sharding of T, or of a single axis [N], is also preserved. The projection accumulates in
float32, everything after it is float32, and so is the sum over chunks of the gradient
of W.

Rows over G groups of devices (`layouts.row_groups`): a chunk is as large on each group,
W is gathered once before the loop, and its gradient [G, V, D] is summed over the groups
once behind it. Inside the loop nothing of the size of W travels.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.layouts import (
    columns_product,
    contracted,
    gathered,
    kept_rows,
    row_groups,
)
from rlhf_jax.losses.arguments import spread_as


class Projection(NamedTuple):
    """The settings of hidden -> logits; hashable, so that they can be static."""

    temperature: float
    soft_cap: float | None


class Weights(NamedTuple):
    """Of one projection h Wᵀ + b: `unembedding` W and `bias` b, None for none."""

    unembedding: Float[Array, "V D"]
    bias: Float[Array, " V"] | None

    def at_hand(self, hidden: Array) -> "Weights":
        """Gathered before a loop, in the dtype that multiplies; on a mesh alone."""
        with_dtype = self.unembedding.astype(hidden.dtype)
        whole = gathered(with_dtype)
        return self if whole is with_dtype else Weights(whole, self.bias)


# One chunk: project and reduce; backwards project again, unless the logits were kept.


def _linear(hidden: Array, weights: Weights) -> Array:
    """h Wᵀ + b, accumulated in float32."""
    logits = contracted(
        "...d,vd->...v", hidden, weights.unembedding.astype(hidden.dtype)
    )
    if weights.bias is None:
        return logits
    bias = weights.bias.astype(jnp.float32)
    return logits + bias.reshape((1,) * (logits.ndim - 1) + bias.shape)


def _reduce(how: tuple, linear: tuple, tokens: tuple) -> tuple[Array, ...]:
    statistics, projection = how
    cap, temperature = projection.soft_cap, projection.temperature
    if cap is not None:
        linear = tuple(cap * jnp.tanh(x / cap) for x in linear)
    return statistics(tuple(x / temperature for x in linear), *tokens)


def _chunk_gradient(
    how: tuple,
    hiddens: tuple,
    weights: tuple,
    tokens: tuple,
    cotangents: tuple,
    pullback: Callable | None,
) -> tuple[tuple, tuple]:
    """The gradients of one chunk: of each hidden, and of each weights in float32."""
    weighed = functools.reduce(jnp.logical_or, [c != 0 for c in cotangents])
    # NaN in a token without weight would reach W through 0 · NaN.
    hiddens = tuple(jnp.where(weighed[..., None], h, 0) for h in hiddens)
    tokens = tuple(jnp.where(weighed, t, 0) for t in tokens)
    if pullback is None:
        linear = tuple(map(_linear, hiddens, weights))
        pullback = jax.vjp(lambda x: _reduce(how, x, tokens), linear)[1]
    to_linear = (jnp.where(weighed[..., None], g, 0) for g in pullback(cotangents)[0])
    by_hidden, by_weights = [], []
    for gradient, hidden, one in zip(to_linear, hiddens, weights, strict=True):
        low = gradient.astype(hidden.dtype)
        into_hidden = contracted(
            "...v,vd->...d", low, one.unembedding.astype(hidden.dtype)
        )
        by_hidden.append(into_hidden.astype(hidden.dtype))
        by_weights.append(
            Weights(
                _by_group(columns_product, low, hidden),
                None if one.bias is None else _by_group(_columns_sum, gradient),
            )
        )
    return tuple(by_hidden), tuple(by_weights)


def _columns_sum(array: Array) -> Array:
    return jnp.sum(array, axis=tuple(range(array.ndim - 1)))


def _groups(shape: tuple[int, ...]) -> int:
    """Groups of devices that hold the rows of [B, .., c, *]; 1 for a single axis."""
    return row_groups(shape[0]) if len(shape) > 2 else 1


def _by_group(total: Callable, *arrays: Array) -> Array:
    """`total` of each group's rows, [G, ...]; with one group, of all, [...]."""
    count = _groups(arrays[0].shape)
    if count == 1:
        return total(*arrays)
    split = (kept_rows(x.reshape(count, -1, *x.shape[1:]), free=True) for x in arrays)
    return kept_rows(jax.vmap(total)(*split), free=True)


# All chunks. Arrays of a chunk stand behind a leading axis that counts chunks.


def over_chunks(
    how: tuple, hiddens: tuple, weights: tuple, tokens: tuple, chunk_size: int
) -> tuple[Array, ...]:
    """Statistics of each token's logits, never more than a chunk of them at a time.

    Args:
      how: (statistics, projection), static; `statistics(logits, *tokens)` gets the
        chunk's logits, one [.., c, V] per model, and gives a tuple of [.., c].
      hiddens: one [.., T, D] per model.
      weights: one `Weights` per model.
      tokens: arrays [.., T] that `statistics` takes beside the logits.
      chunk_size: tokens per chunk, those of all rows of a device together, at least 1
        per row.

    Returns:
      What `statistics` gives, each [.., T] float32. Gradients reach `hiddens` and
      `weights`.

    Raises:
      ValueError: a chunk of no token.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}: expected at least 1")
    shape = hiddens[0].shape[:-1]
    hiddens, tokens = jax.tree.map(
        lambda x: _cut(x, shape, chunk_size), (hiddens, tokens)
    )
    weights = jax.tree.map(lambda w: spread_as(w, hiddens[0]), weights)
    results = _all_chunks(how, hiddens, weights, tokens)
    return tuple(_uncut(result, shape) for result in results)


def _cut(array: Array, shape: tuple[int, ...], chunk_size: int) -> Array:
    """[.., T, *rest] -> [count, .., T / count, *rest]; `shape` is [.., T]."""
    rest = array.shape[len(shape) :]
    *rows, length = shape or (1,)
    together = math.prod(rows) // (row_groups(rows[0]) if rows else 1)
    width = max(1, chunk_size // max(1, together))
    count = max(1, math.ceil(length / width))
    width = math.ceil(length / count)
    axis = len(rows)
    array = array.reshape(*rows, length, *rest)
    padding = [(0, 0)] * array.ndim
    padding[axis] = (0, count * width - length)
    array = jnp.pad(array, padding).reshape(*rows, width, count, *rest)
    return jnp.moveaxis(array, axis + 1, 0)


def _uncut(chunks: Array, shape: tuple[int, ...]) -> Array:
    *rows, length = shape or (1,)
    whole = jnp.moveaxis(chunks, 0, -1).reshape(*rows, -1)
    return whole[..., :length].reshape(shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _all_chunks(how: tuple, hiddens: tuple, weights: tuple, tokens: tuple) -> tuple:
    weights = _at_hand(hiddens, weights)

    def one(chunk: tuple) -> tuple[Array, ...]:
        hiddens, tokens = chunk
        return _reduce(how, tuple(map(_linear, hiddens, weights)), tokens)

    return jax.lax.map(one, (hiddens, tokens))


def _forward(how: tuple, hiddens: tuple, weights: tuple, tokens: tuple) -> tuple:
    if len(hiddens[0]) > 1:
        results = _all_chunks(how, hiddens, weights, tokens)
        return results, (hiddens, weights, tokens, None)
    first = functools.partial(jax.tree.map, lambda x: x[0])
    logits = tuple(map(_linear, first(hiddens), _at_hand(hiddens, weights)))
    results, pullback = jax.vjp(lambda x: _reduce(how, x, first(tokens)), logits)
    results = tuple(result[None] for result in results)
    return results, (hiddens, weights, tokens, pullback)


def _backward(how: tuple, kept: tuple, cotangents: tuple) -> tuple:
    hiddens, weights, tokens, pullback = kept
    near = _at_hand(hiddens, weights)

    def one(total: tuple, chunk: tuple) -> tuple[tuple, tuple]:
        hiddens, tokens, cotangents = chunk
        by_hidden, by_weights = _chunk_gradient(
            how, hiddens, near, tokens, cotangents, pullback
        )
        return jax.tree.map(jnp.add, total, by_weights), by_hidden

    # bfloat16 would lose small chunks in a large sum.
    count = _groups(hiddens[0].shape[1:])

    def zeros_of(weight: Array) -> Array:
        zeros = spread_as(jnp.zeros(weight.shape, jnp.float32), hiddens[0])
        if count == 1:
            return zeros
        return kept_rows(jnp.broadcast_to(zeros, (count, *zeros.shape)), free=True)

    zeros = jax.tree.map(zeros_of, weights)
    total, by_hidden = jax.lax.scan(one, zeros, (hiddens, tokens, cotangents))
    by_weights = jax.tree.map(
        lambda g, w: (g if count == 1 else g.sum(axis=0)).astype(w.dtype),
        total,
        weights,
    )
    return by_hidden, by_weights, None


def _at_hand(hiddens: tuple, weights: tuple) -> tuple:
    return tuple(w.at_hand(h) for w, h in zip(weights, hiddens, strict=True))


_all_chunks.defvjp(_forward, _backward)

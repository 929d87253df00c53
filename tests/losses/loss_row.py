"""What a row of the table of losses is, what its arrays are drawn from, how it runs."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax import losses

VOCABULARY, WIDTH = 5, 3
LOG2 = 0.6931


@dataclasses.dataclass(frozen=True, eq=False)  # hashed by identity
class Row:
    """One loss under contract."""

    name: str
    loss: Callable  # arrays by name -> values [B] or [B, R]
    draw: Callable  # (rng, B, R) -> arrays by name, NumPy
    oracle: Callable  # float64 arrays by name -> values
    hand: tuple[dict, list]  # one example: arrays, values to 4 decimals
    mask: str | None = None  # an argument that marks what is real
    forward_looking: bool = False  # a value depends on later entries of its row
    shared: tuple[str, ...] = ()
    shift: int = 0  # values[:, t] belong to tokens[:, t + shift]
    float32_only: bool = False  # accumulates in float32 even for float64
    unequal: tuple[str, str] | None = None  # a pair that must have one shape

    def __str__(self) -> str:
        return self.name


ROWS: dict[str, Row] = {}


def row(name, loss, draw, oracle, hand, **more):
    """Adds a row to the table."""
    ROWS[name] = Row(name, loss, draw, oracle, hand, **more)


def normal(rng, *shape):
    return rng.normal(size=shape)


def mask_of(rng, batch, length):
    """Prefix masks, with empty and full rows among them, and now and then a hole."""
    mask = np.arange(length) < rng.integers(0, length + 1, size=(batch, 1))
    return mask & (rng.random((batch, length)) < 0.85)


def tokens_of(rng, *shape):
    return rng.integers(0, VOCABULARY, size=shape).astype(np.int32)


def several(*names):
    return lambda rng, b, r: {name: normal(rng, b, r) for name in names}


def draw_logits(*names):
    return lambda rng, b, r: {name: normal(rng, b, r, VOCABULARY) for name in names}


def draw_ranking(rng, b, r):
    k = r + 1
    return {
        "scores": normal(rng, b, k),
        "ranks": rng.integers(1, k + 1, size=(b, k)).astype(np.int32),  # with ties
        "valid": rng.random((b, k)) < 0.8,
    }


def draw_group(rng, b, r):
    return {"scores": normal(rng, b, r), "valid": rng.random((b, r)) < 0.8}


def draw_hidden(rng, b, r):
    return {
        "hidden": normal(rng, b, r, WIDTH),
        "unembedding": normal(rng, VOCABULARY, WIDTH),
        "bias": normal(rng, VOCABULARY),
    }


def draw_episode(rng, b, r):
    return {**several("rewards", "values")(rng, b, r), "mask": mask_of(rng, b, r)}


def draw_two_models(rng, b, r):
    ours, theirs = draw_hidden(rng, b, r), draw_hidden(rng, b, r)
    return ours | {f"ref_{name}": array for name, array in theirs.items()}


def arrays_of(inputs: dict, dtype=jnp.float32) -> dict[str, jax.Array]:
    """Lists or float64 arrays -> float32 (or `dtype`) and int32 and bool arrays."""
    arrays = {}
    for name, value in inputs.items():
        value = np.asarray(value)
        kind = {"f": dtype, "i": jnp.int32, "b": jnp.bool_}[value.dtype.kind]
        arrays[name] = jnp.asarray(value, kind)
    return arrays


@functools.cache
def compiled(row: Row) -> Callable:
    """(floats, others, weights) -> ((weighted sum, values), gradients), jitted."""

    def total(floats, others, weights):
        values = row.loss(**floats, **others)
        return losses.weighted_sum(values, weights), values

    return jax.jit(jax.value_and_grad(total, has_aux=True))


def run(row: Row, inputs: dict, weights) -> tuple[float, np.ndarray, dict]:
    """(weighted sum, values, gradients by name) of a row, as NumPy."""
    arrays = arrays_of(inputs)
    floats = {n: a for n, a in arrays.items() if a.dtype == jnp.float32}
    others = {n: a for n, a in arrays.items() if n not in floats}
    weights = jnp.asarray(weights, jnp.float32)
    (total, values), gradients = compiled(row)(floats, others, weights)
    return float(total), np.asarray(values), jax.tree.map(np.asarray, gradients)

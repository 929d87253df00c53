"""Products of transposed arrays: their values, and what a CPU multiplies."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax import losses
from rlhf_jax.layouts import columns_product, transposed
from rlhf_jax.models.attention import Places, Rule, attend
from rlhf_jax.models.products import product

ROWS, WIDE, NARROW = 256, 128, 64


def normal(seed, shape, dtype="float32"):
    draws = np.random.default_rng(seed).standard_normal(shape)
    return jnp.asarray(draws, jnp.float32).astype(dtype)


@pytest.mark.parametrize("widths", [(WIDE, NARROW), (NARROW, WIDE), (WIDE, WIDE)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_columns_product(monkeypatch, widths, dtype, backend):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    left, right = (normal(i, (4, 64, width), dtype) for i, width in enumerate(widths))
    out = jax.jit(lambda *sides: columns_product(*sides))(left, right)
    sides = (np.asarray(side, np.float64) for side in (left, right))
    exact = np.einsum("abi,abo->io", *sides)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, exact, rtol=0, atol=1e-4)


def test_transposed():
    array = normal(0, (3, ROWS, WIDE), "bfloat16")
    for swap in (transposed, jax.jit(transposed)):
        assert (swap(array) == array.swapaxes(1, 2)).all()


def by_product(inputs, kernel):
    out, pull = jax.vjp(lambda *given: product(*given, "bfloat16"), inputs, kernel)
    return pull(out)


def by_attention(query, key, value):
    tokens = query.shape[3]
    rows = jnp.broadcast_to(jnp.arange(tokens), (query.shape[0], tokens))
    places = Places(rows, jnp.zeros_like(rows))

    def average(*given):
        return attend(Rule(ordered=True), *given, places, places, None)[0]

    out, pull = jax.vjp(average, query, key, value)
    return pull(out)


def by_likelihood(hidden, unembedding):
    tokens = jnp.zeros(hidden.shape[:-1], jnp.int32)

    def loss(*given):
        return losses.chunked_logprobs(*given, tokens).logprobs.sum()

    return jax.grad(loss, argnums=(0, 1))(hidden, unembedding)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of the CPU's compiler")
@pytest.mark.parametrize(
    ("gradients", "shapes"),
    [
        (by_product, [(2, ROWS, WIDE), (WIDE, NARROW)]),
        (by_product, [(2, ROWS, NARROW), (NARROW, WIDE)]),
        (by_attention, [(2, 2, 1, ROWS, 64), (2, 2, ROWS, 64), (2, 2, ROWS, 64)]),
        (by_likelihood, [(2, ROWS, WIDE), (512, WIDE)]),
    ],
)
def test_bfloat16_is_multiplied_as_such(gradients, shapes):
    """Else a step in bfloat16 costs a third more, with the same numbers."""
    given = [normal(i, shape, "bfloat16") for i, shape in enumerate(shapes)]
    program = jax.jit(gradients).lower(*given).compile().as_text()
    operands = list(operands_of_products(program))
    assert operands
    assert set(operands) == {"bf16"}


def operands_of_products(program):
    """The dtype of each operand of each product in a compiled program."""
    for body in program.split("\n}"):
        dtypes = dict(re.findall(r"%(\S+) = (\w+)\[", body))
        for both in re.findall(r" dot\(([^)]*)\)", body):
            yield from (dtypes[name] for name in re.findall(r"%([\w.-]+)", both))

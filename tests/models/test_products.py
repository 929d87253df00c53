"""Products and biases in both compute dtypes, against float64 NumPy."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax import losses
from rlhf_jax.models import LanguageModel, TrunkConfig, init_params
from rlhf_jax.models.products import biased, product

ERROR = {"float32": 1e-5, "bfloat16": 2e-2}  # of the largest entry


def draw(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def close(found, expected, dtype):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=ERROR[dtype] * scale, rtol=0)


@pytest.mark.parametrize("dtype", ERROR)
def test_a_product_and_its_gradients_are_those_of_float64(dtype):
    inputs, kernel, dout = draw(3, 40, 16), draw(16, 8), draw(3, 40, 8)
    out, pullback = jax.vjp(lambda x, k: product(x, k, dtype), inputs, kernel)
    dinputs, dkernel = pullback(jnp.asarray(dout, dtype))
    assert out.dtype == dtype and dkernel.dtype == dinputs.dtype == jnp.float32
    wide = inputs.astype(float)
    close(out.astype(float), wide @ kernel, dtype)
    close(dinputs, dout.astype(float) @ kernel.T, dtype)
    close(dkernel, np.einsum("bri,bro->io", wide, dout), dtype)


@pytest.mark.parametrize("dtype", ERROR)
def test_a_bias_is_added_and_its_gradient_is_the_exact_sum_of_the_rows(dtype):
    inputs, bias = jnp.asarray(draw(3, 400, 8), dtype), draw(8)
    dout = jnp.asarray(draw(3, 400, 8), dtype)
    out, pullback = jax.vjp(biased, inputs, bias)
    dinputs, dbias = pullback(dout)
    assert out.dtype == dtype and dbias.dtype == jnp.float32
    close(out.astype(float), np.asarray(inputs, float) + bias, dtype)
    np.testing.assert_array_equal(dinputs, dout)
    exact = np.asarray(dout, float).sum(axis=(0, 1))  # float32 sums, in either dtype
    np.testing.assert_allclose(dbias, exact, atol=1e-3)


@pytest.mark.parametrize("dtype", ERROR)
def test_every_product_of_an_update_is_made_in_the_dtype_that_the_model_names(dtype):
    """Without a precision a GPU makes a float32 product of TF32, a TPU of bfloat16."""
    config = TrunkConfig(7, 8, 8, 1, 2, dtype=dtype)
    model = LanguageModel(config)
    params = init_params(model, jax.random.key(0))
    tokens = jnp.zeros((2, 8), jnp.int32)

    def loss(params):
        hidden = model.apply({"params": params}, tokens, method="hidden")
        stats = losses.chunked_logprobs(hidden, model.unembedding(params), tokens)
        return stats.logprobs.sum()

    found = list(products(jax.make_jaxpr(jax.grad(loss))(params).jaxpr))
    assert len(found) >= 18  # six in the layer, one unembedding, each twice backwards
    for left, precision in found:
        exact = left == jnp.float32
        assert precision == ((jax.lax.Precision.HIGHEST,) * 2 if exact else None)
    assert (dtype == "float32") == all(left == jnp.float32 for left, _ in found)


def products(jaxpr):
    """(dtype of the left operand, precision) of every product, the nested ones too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.invars[0].aval.dtype, equation.params["precision"]
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from products(inner)

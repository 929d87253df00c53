"""The nonlinearity of a layer in a low compute dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from rlhf_jax.models import TrunkConfig
from rlhf_jax.models.block import activated

EXACT = {
    "gelu": lambda x: 0.5 * x * (1 + special.erf(x / np.sqrt(2))),
    "gelu_tanh": lambda x: (
        0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    ),
    "silu": lambda x: x * special.expit(x),
    "relu": lambda x: np.maximum(x, 0),
}


@pytest.mark.parametrize("name", EXACT)
def test_bfloat16_is_rounded_once(name):
    config = TrunkConfig(
        vocab_size=8,
        context_length=8,
        embed_dim=8,
        num_layers=1,
        num_heads=1,
        activation=name,
    )
    x = jnp.linspace(-3, 6, 2001).astype("bfloat16")
    found = jax.jit(lambda x: activated(x, config))(x)
    exact = EXACT[name](np.asarray(x, np.float64))
    assert found.dtype == x.dtype
    # half a step of bfloat16, which has 8 bits, and the error of float32
    _, exponent = np.frexp(exact)
    limit = np.exp2(exponent - 9.0) + 1e-6
    assert (np.abs(np.asarray(found, np.float64) - exact) <= limit).all()

"""The matrix product of every layer: operands in the compute dtype, sums in float32."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from rlhf_jax.layouts import columns_product, contracted


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(
    inputs: Float[Array, "*R I"], kernel: Float[Array, "I O"], dtype: str
) -> Float[Array, "*R O"]:
    """inputs · kernel with operands in `dtype` and a float32 sum, rounded to `dtype`.

    The backward products have operands in `dtype` too; automatic differentiation
    would multiply by float32 cotangents, several times slower where the hardware
    multiplies bfloat16. The kernel's gradient is float32, not rounded.

    Args:
      inputs: any float dtype.
      kernel: any float dtype, float32 as a rule.
      dtype: of the operands and the result.
    """
    return _rows_times_columns(inputs, kernel, dtype)


def _rows_times_columns(inputs, kernel, dtype):
    inputs, kernel = inputs.astype(dtype), kernel.astype(dtype)
    out = contracted("...i,io->...o", inputs, kernel)
    return out.astype(dtype)


def _forward(inputs, kernel, dtype):
    out = checkpoint_name(_rows_times_columns(inputs, kernel, dtype), "product")
    like = jnp.zeros((0,), inputs.dtype)
    return out, (inputs.astype(dtype), kernel, like)


def _backward(dtype, saved, dout):
    inputs, kernel, like = saved
    dout = dout.astype(dtype)
    dinputs = contracted("...o,io->...i", dout, kernel.astype(dtype))
    dkernel = columns_product(inputs, dout)
    return dinputs.astype(like.dtype), dkernel.astype(kernel.dtype)


product.defvjp(_forward, _backward)


@jax.custom_vjp
def biased(
    inputs: Float[Array, "*R O"], bias: Float[Array, "O"]
) -> Float[Array, "*R O"]:
    """inputs + bias, in the dtype of the inputs; the bias's gradient is float32.

    The gradient sums over rows as a product with ones, which a CPU does several times
    faster than a sum of bfloat16 over a leading axis (docs/log.md).

    Args:
      inputs: any float dtype.
      bias: any float dtype, float32 as a rule.

    Returns:
      The sum in the dtype of `inputs`, which `bias` is rounded to.
    """
    return inputs + jnp.broadcast_to(bias.astype(inputs.dtype), inputs.shape)


def _biased_forward(inputs, bias):
    return biased(inputs, bias), jnp.zeros((0,), bias.dtype)


def _biased_backward(like, dout):
    rows = dout.reshape(-1, dout.shape[-1])
    ones = jnp.ones((1, rows.shape[0]), rows.dtype)
    dbias = contracted("ar,ro->ao", ones, rows)[0]
    return dout, dbias.astype(like.dtype)


biased.defvjp(_biased_forward, _biased_backward)


class Dense(nn.Module):
    """x · kernel + bias.

    Attributes:
      features: O, width of the output.
      use_bias: whether there is a bias.
      dtype: compute dtype.
      init_std: standard deviation of the fresh kernel.
    """

    features: int
    use_bias: bool
    dtype: str
    init_std: float

    @nn.compact
    def __call__(self, inputs: Float[Array, "*R I"]) -> Float[Array, "*R O"]:
        shape = (inputs.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(self.init_std), shape)
        out = product(inputs, kernel, self.dtype)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            out = biased(out, bias)
        return out

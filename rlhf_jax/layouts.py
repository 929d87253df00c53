"""How intermediate arrays lie in memory on a CPU; elsewhere, plain operations.

XLA's CPU compiler multiplies bfloat16 natively only where both operands lie row by row
when it first sees the product; it decides on a transposed operand before it has chosen
its layout, and then multiplies in float32, at half the speed (docs/log.md).
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["apart", "columns_product", "transposed"]


def apart(array: Array) -> Array:
    """The same array; on a CPU computed as such, not merged into what reads it."""
    if jax.default_backend() != "cpu":  # a GPU would only be made to copy
        return array
    return jax.lax.optimization_barrier(array)


def transposed(array: Array) -> Array:
    """The last two axes swapped; on a CPU a copy, row by row, ready for a product."""
    array = array.swapaxes(-1, -2)
    if jax.default_backend() != "cpu":
        return array
    # a reshape gives the default layout back, which a transposition takes away
    return apart(array.reshape(1, *array.shape)).reshape(array.shape)


def columns_product(
    left: Float[Array, "*R I"], right: Float[Array, "*R O"]
) -> Float[Array, "I O"]:
    """leftᵀ · right over all rows, summed in float32; both of one dtype.

    On a CPU the rows are one axis and the narrower side is transposed. Elsewhere rows
    keep their axes, and so their devices.
    """
    if jax.default_backend() != "cpu":
        return _einsum("...i,...o->io", left, right)
    left, right = (side.reshape(-1, side.shape[-1]) for side in (left, right))
    if left.shape[1] > right.shape[1]:
        return apart(_einsum("or,ri->oi", transposed(right), left)).T
    return _einsum("ir,ro->io", transposed(left), right)


_einsum = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)

"""How intermediate arrays lie in memory on a CPU. Elsewhere nothing here does anything.

XLA's CPU compiler multiplies bfloat16 natively only where both operands lie row by row
when it first sees the product; it decides on a transposed operand before it has chosen
its layout, and then multiplies in float32, at half the speed (docs/log.md).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

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


def columns_product(left: Array, right: Array) -> Array:
    """leftᵀ · right, summed in float32; on a CPU the narrower one is transposed.

    Args:
      left: [R, I].
      right: [R, O], of the same dtype.

    Returns:
      [I, O], float32.
    """
    if left.shape[1] > right.shape[1]:
        return apart(columns_product(right, left)).T
    return jnp.einsum(
        "ir,ro->io", transposed(left), right, preferred_element_type=jnp.float32
    )

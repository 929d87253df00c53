"""How intermediate arrays lie: over the devices of a mesh, and in a CPU's memory.

Over devices: a compiler that sees only where weights and batches lie is free to gather
the rows of a batch and keep the weights cut, so that every device computes every row.
Here rows are told to stay where they are, by the mesh in force (`parallel.in_force`,
which `compile_update`, `compile_function` and `init_sharded` use). Without a mesh, on
one device and where a size does not divide, nothing is told: the program is the plain
one.

In memory: XLA's CPU compiler multiplies bfloat16 natively only where both operands lie
row by row when it first sees the product; it decides on a transposed operand before it
has chosen its layout, and then multiplies in float32, at half the speed (docs/log.md).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array, Float, Shaped

BATCH_AXES = ("data", "fsdp")  # of a mesh: rows are cut over both
TENSOR_AXIS = "tensor"  # and heads, columns and words over this


def axes_in_force(*, lone: bool = False) -> dict[str, int]:
    """Axes of the mesh in force that the compiler may cut arrays over, with sizes.

    Empty without a mesh; axes that a `shard_map` or `pmap` has cut already are left
    out, and axes of one device too unless `lone`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    kinds = zip(mesh.axis_names, mesh.axis_sizes, mesh.axis_types, strict=True)
    least = 1 if lone else 2
    return {
        n: size for n, size, kind in kinds if kind == AxisType.Auto and size >= least
    }


def platform() -> str:
    """Of the devices a program is traced for: the mesh's, else the default backend's.

    (A program for a TPU can be compiled on a machine that has none.)
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    found = getattr(device, "platform", None)
    return jax.default_backend() if found is None else found


def row_ways() -> int:
    """Over how many groups of devices the rows of a batch are cut."""
    return math.prod(axes_in_force().get(axis, 1) for axis in BATCH_AXES)


def row_groups(rows: int) -> int:
    """The groups of devices that so many rows lie on; 1 where they cannot be cut."""
    return row_ways() if rows % row_ways() == 0 else 1


def kept_rows(
    array: Shaped[Array, "..."], axis: int = 0, *, free: bool = False
) -> Array:
    """The same array, its rows cut over ("data", "fsdp").

    Args:
      array: with rows along `axis`.
      axis: of the rows.
      free: leave the other axes to the compiler; else they are whole on each device.
    """
    if array.ndim <= axis or row_groups(array.shape[axis]) == 1:
        return array
    other = PartitionSpec.UNCONSTRAINED if free else None
    after = array.ndim - axis - 1
    return _laid(array, *(other,) * axis, _rows(), *(other,) * after)


def kept_heads(array: Shaped[Array, "B T N H"]) -> Array:
    """Rows cut as by `kept_rows`; whole heads over "tensor" where their number fits.

    Else each device of the tensor axis has all heads: a head is never cut.
    """
    over_rows = _rows()
    if not axes_in_force() or (over_rows and row_groups(array.shape[0]) == 1):
        return array
    return _laid(array, over_rows or None, None, _tensor(array.shape[2]))


def gathered(table: Shaped[Array, "V D"], *, words: bool = True) -> Array:
    """A table gathered over the devices of the rows; words stay cut over "tensor".

    For lookups, and for a loop that would gather it again in each turn.

    Args:
      table: V rows, of words or (with `words=False`) of what every device reads.
    """
    if not axes_in_force():
        return table
    return _laid(table, _tensor(table.shape[0]) if words else None)


def logits_cut(words: int) -> int:
    """How many devices share the words of a row's logits."""
    return axes_in_force()[TENSOR_AXIS] if _tensor(words) else 1


def _laid(array: Array, *axes: Any) -> Array:
    return jax.lax.with_sharding_constraint(array, PartitionSpec(*axes))


def _rows() -> tuple[str, ...]:
    return tuple(axis for axis in BATCH_AXES if axis in axes_in_force())


def _tensor(size: int) -> str | None:
    ways = axes_in_force().get(TENSOR_AXIS, 1)
    return TENSOR_AXIS if ways > 1 and size % ways == 0 else None


def apart(array: Array) -> Array:
    """The same array; on a CPU computed as such, not merged into what reads it."""
    if platform() != "cpu":  # a GPU would only be made to copy
        return array
    return jax.lax.optimization_barrier(array)


def transposed(array: Array) -> Array:
    """The last two axes swapped; on a CPU a copy, row by row, ready for a product."""
    array = array.swapaxes(-1, -2)
    if platform() != "cpu":
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
    if platform() != "cpu":
        return contracted("...i,...o->io", left, right)
    left, right = (side.reshape(-1, side.shape[-1]) for side in (left, right))
    if left.shape[1] > right.shape[1]:
        return apart(contracted("or,ri->oi", transposed(right), left)).T
    return contracted("ir,ro->io", transposed(left), right)


def contracted(
    equation: str, left: Float[Array, "..."], right: Float[Array, "..."]
) -> Float[Array, "..."]:
    """`einsum` of two arrays, summed in float32: every product of models and losses.

    What is float32 is multiplied as float32. By default an NVIDIA GPU would round the
    operands to 10 bits (TF32) and a TPU to 7 (bfloat16), and a model that says float32
    would not be. `jax_default_matmul_precision`, where a user set it, decides instead.

    Args:
      equation: of `jnp.einsum`, two operands.
      left: any float dtype.
      right: of the same dtype.
    """
    unset = jax.config.jax_default_matmul_precision is None
    exact = unset and left.dtype == jnp.float32
    return jnp.einsum(
        equation,
        left,
        right,
        preferred_element_type=jnp.float32,
        precision=jax.lax.Precision.HIGHEST if exact else None,
    )

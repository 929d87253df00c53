"""Parameters laid out for a rollout: gathered once, not once per token."""

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rlhf_jax.models import cast_matrices

_TENSOR = "tensor"


def row_axes(mesh: Mesh) -> tuple[str, ...]:
    """The mesh axes over which a rollout's rows are split: all but `tensor`."""
    return tuple(name for name in mesh.axis_names if name != _TENSOR)


def layout_for_rollout(params: dict, mesh: Mesh, dtype=None) -> dict:
    """A copy of the parameters, split over `tensor` only and cast to `dtype`.

    Training splits them over `fsdp` too; a decode loop over such parameters would
    gather every one of them for every token. This gathers each once, after the cast.

    Args:
      params: any tree; leaves with a `NamedSharding` keep its `tensor` axis, others
        are replicated.
      mesh: of the rollout.
      dtype: of the matrices, embeddings included; vectors keep theirs. None: all do.

    Returns:
      The same tree with shardings over `tensor` alone.
    """

    shardings = rollout_shardings(params, mesh)
    if dtype is not None:
        params = cast_matrices(params, dtype)
    return jax.device_put(params, shardings)


def rollout_shardings(params: dict, mesh: Mesh) -> dict:
    """Where `layout_for_rollout` puts each leaf; shapes with a sharding will do."""

    def spec(leaf):
        sharding = getattr(leaf, "sharding", None)
        if not isinstance(sharding, NamedSharding):
            return NamedSharding(mesh, PartitionSpec())
        names = [_TENSOR if _names(axis) else None for axis in sharding.spec]
        return NamedSharding(mesh, PartitionSpec(*names))

    return jax.tree.map(spec, params)


def _names(axis) -> bool:
    """True if an entry of a PartitionSpec names the tensor axis."""
    return axis == _TENSOR or (isinstance(axis, tuple) and _TENSOR in axis)

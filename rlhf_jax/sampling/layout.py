"""Parameters laid out for a rollout: gathered once, not once per token."""

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

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

    def spec(leaf):
        sharding = getattr(leaf, "sharding", None)
        if not isinstance(sharding, NamedSharding):
            return NamedSharding(mesh, PartitionSpec())
        names = [_TENSOR if _names(axis) else None for axis in sharding.spec]
        return NamedSharding(mesh, PartitionSpec(*names))

    shardings = jax.tree.map(spec, params)
    if dtype is not None:
        params = _cast_matrices(params, dtype)
    return jax.device_put(params, shardings)


def _names(axis) -> bool:
    """True if an entry of a PartitionSpec names the tensor axis."""
    return axis == _TENSOR or (isinstance(axis, tuple) and _TENSOR in axis)


def _cast_matrices(params, dtype):
    """Casts what multiplies; vectors, stacked over layers or not, keep their dtype."""

    def cast(path, leaf):
        in_layers = any(getattr(key, "key", None) == "layers" for key in path)
        one_by_one = any(isinstance(key, jax.tree_util.SequenceKey) for key in path)
        stacked = in_layers and not one_by_one
        return leaf.astype(dtype) if leaf.ndim > 1 + stacked else leaf

    return jax.tree_util.tree_map_with_path(cast, params)

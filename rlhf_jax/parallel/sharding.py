"""Sharding by rules: the first regex that matches a leaf's path gives its spec.

The rules apply to a whole train state. The moments of the optimizer and the EMA carry
the path of their parameter (`opt_state/mu/trunk/layers/mlp/up/kernel`), so one rule
places a parameter and everything that belongs to it.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rlhf_jax.errors import InputError
from rlhf_jax.layouts import BATCH_AXES
from rlhf_jax.parallel.mesh import in_force, make_mesh

Rules = Sequence[tuple[str, P | Callable[[int], P]]]


def last(*axes: str | None) -> Callable[[int], P]:
    """The last axes of a leaf: what is stacked in front of them is not cut.

    So one rule is for a model and for an ensemble, whose members are stacked.

    >>> last("fsdp", None)(3)
    PartitionSpec(None, 'fsdp', None)
    """
    return lambda rank: P(*(None,) * (rank - len(axes)), *axes)


# Layers are stacked, so their matrices are [L, in, out]. A matrix that leads into a
# layer is cut along its outputs, one that leads out along its inputs: one sum over
# "tensor" per block (Shoeybi et al. 2019, Megatron-LM, section 3). `kernel/base` is one
# with a narrow change beside it (`models.low_rank`), which every device holds whole.
DEFAULT_RULES: Rules = (
    (r"(^|/)(unembedding|token_embed/embedding)$", last("tensor", "fsdp")),
    (r"(^|/)position_embed/embedding$", last(None, "fsdp")),
    (r"layers/.*(query|key|value|gate|up)/kernel(/base)?$", last("fsdp", "tensor")),
    (r"layers/.*(query|key|value|gate|up)/bias$", last("tensor")),
    (r"layers/.*(out|down)/kernel(/base)?$", last("tensor", "fsdp")),
    (r"", P()),
)


def path_name(path: tuple) -> str:
    """The path of a leaf as rules see it: `params/trunk/layers/mlp/up/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def shardings(tree: Any, mesh: Mesh, rules: Rules = DEFAULT_RULES) -> Any:
    """The `NamedSharding` of every leaf of `tree`.

    A spec that is longer than the rank of its leaf (a scalar count beside a matrix)
    gives a copy on every device. An axis that does not divide its dimension is left
    out for that dimension: a vocabulary of 50,257 is not cut in 8.

    Args:
      tree: arrays or `jax.ShapeDtypeStruct`s, for example a whole `TrainState`.
      mesh: the mesh.
      rules: ordered (regex, PartitionSpec, or the `last` axes); the first regex found
        in the path decides.

    Returns:
      A tree like `tree` with a sharding for each leaf.

    Raises:
      InputError: no rule matches a leaf, or a spec names an axis the mesh lacks.
    """
    compiled = [(re.compile(pattern), spec) for pattern, spec in rules]

    def one(path: tuple, leaf: Any) -> NamedSharding:
        name = path_name(path)
        for pattern, spec in compiled:
            if pattern.search(name):
                spec = spec(len(leaf.shape)) if callable(spec) else spec
                return NamedSharding(mesh, _fitted(spec, leaf.shape, mesh, name))
        raise InputError(f"no sharding rule matches {name} {leaf.shape}: end with ''")

    return jax.tree_util.tree_map_with_path(one, tree)


def _fitted(spec: P, shape: tuple[int, ...], mesh: Mesh, name: str) -> P:
    """`spec` cut to what `shape` allows."""
    if len(spec) > len(shape):
        return P()
    fitted = []
    for size, entry in zip(shape, spec, strict=False):
        axes = entry if isinstance(entry, tuple) else (entry,) if entry else ()
        if missing := set(axes) - set(mesh.axis_names):
            raise InputError(
                f"sharding rule of {name}: no mesh axis {sorted(missing)}; "
                f"there are {mesh.axis_names}"
            )
        ways = math.prod(mesh.shape[axis] for axis in axes)
        fitted.append(entry if size % ways == 0 else None)
    return P(*fitted)


def batch_sharding(mesh: Mesh, rank: int = 1) -> NamedSharding:
    """Rows over ("data", "fsdp"); an array of rank 0 is copied."""
    return NamedSharding(mesh, P(BATCH_AXES) if rank else P())


def init_sharded(
    init: Callable[..., Any], *args: Any, mesh: Mesh, rules: Rules = DEFAULT_RULES
) -> Any:
    """`init(*args)` with every leaf born on its shard; no device ever holds the whole.

    Args:
      init: a pure function to a tree of arrays, such as
        `lambda key: init_state(init_params(model, key), tx, rng)`.
      *args: arguments of `init`, arrays; those that lie elsewhere are laid out first.
      mesh: the mesh.
      rules: as for `shardings`.

    Returns:
      The tree of `init`, sharded; the same values on every mesh (jax's random bits do
      not depend on the layout).
    """
    args = jax.tree.map(_moved, args, shardings(args, mesh, rules))
    with in_force(mesh):
        places = shardings(jax.eval_shape(init, *args), mesh, rules)
        return jax.jit(init, out_shardings=places)(*args)


def _moved(leaf: Any, place: NamedSharding) -> Any:
    """`leaf` where a program of the mesh takes it.

    What several processes each have of their own, uncommitted, a program takes as it
    is; moving it would compare it over all of them first.
    """
    if isinstance(leaf, jax.Array) and (leaf.committed or jax.process_count() == 1):
        return jax.device_put(leaf, place)
    return leaf


def placed(tree: Any, mesh: Mesh, rules: Rules = DEFAULT_RULES) -> Any:
    """`tree` laid out on the mesh by the rules; the same arrays where they already are.

    Args:
      tree: arrays, such as params.
      mesh: the mesh.
      rules: as for `shardings`.
    """
    return jax.device_put(tree, shardings(tree, mesh, rules))


def mesh_of(*trees: Any) -> Mesh:
    """The mesh that arrays lie on, the largest where they lie on several.

    Models run where they lie: what computes with params asks here.

    Args:
      *trees: of arrays, such as params.

    Returns:
      A mesh of one device where no array was laid out on one.
    """
    found: Mesh | None = None
    for leaf in jax.tree.leaves(trees):
        place = getattr(leaf, "sharding", None)
        if not isinstance(place, NamedSharding) or not isinstance(place.mesh, Mesh):
            continue
        if found is None or place.mesh.size > found.size:
            found = place.mesh
    return make_mesh(devices=jax.local_devices()[:1]) if found is None else found

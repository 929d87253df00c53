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
from rlhf_jax.parallel.mesh import in_force

Rules = Sequence[tuple[str, P]]

# Layers are stacked, so their matrices are [L, in, out]. A matrix that leads into a
# layer is cut along its outputs, one that leads out along its inputs: one sum over
# "tensor" per block (Shoeybi et al. 2019, Megatron-LM, section 3). `kernel/base` is one
# with a narrow change beside it (`models.low_rank`), which every device holds whole.
DEFAULT_RULES: Rules = (
    (r"(^|/)(unembedding|token_embed/embedding)$", P("tensor", "fsdp")),
    (r"(^|/)position_embed/embedding$", P(None, "fsdp")),
    (r"layers/.*(query|key|value|gate|up)/kernel(/base)?$", P(None, "fsdp", "tensor")),
    (r"layers/.*(query|key|value|gate|up)/bias$", P(None, "tensor")),
    (r"layers/.*(out|down)/kernel(/base)?$", P(None, "tensor", "fsdp")),
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
      rules: ordered (regex, PartitionSpec); the first regex found in the path decides.

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
      *args: arguments of `init`.
      mesh: the mesh.
      rules: as for `shardings`.

    Returns:
      The tree of `init`, sharded; the same values on every mesh (jax's random bits do
      not depend on the layout).
    """
    with in_force(mesh):
        places = shardings(jax.eval_shape(init, *args), mesh, rules)
        return jax.jit(init, out_shardings=places)(*args)

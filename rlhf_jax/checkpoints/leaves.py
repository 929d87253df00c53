"""A state as a flat table: one path, one spec and one array per leaf.

    params/trunk/layers/mlp/up/kernel   float32[12,768,3072]
    opt_state/0/mu/...                  float32[...]
    rng                                 key<fry>[]

The paths are what a checkpoint stores and what two states are compared by, whatever
the classes that hold the leaves (dicts, NamedTuples of optax, dataclasses).
"""

import collections
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.errors import InputError

SEPARATOR = "/"


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by path, in the order of the tree; None is no leaf.

    Raises:
      InputError: two leaves with one path, or a leaf that is not numbers.
    """
    pairs, _ = jax.tree_util.tree_flatten_with_path(tree)
    named = {_name(path): leaf for path, leaf in pairs}
    # the array files join with dots: a key "a.b" would overwrite "a" -> "b"
    stored = collections.Counter(n.replace(SEPARATOR, ".") for n in map(_path, pairs))
    if twice := sorted(name for name, count in stored.items() if count > 1):
        raise InputError(f"two leaves of the state have one path: {', '.join(twice)}")
    for name, leaf in named.items():
        if not _is_numeric(leaf):
            raise InputError(
                f"leaf {name} of the state is {type(leaf).__name__}, not numbers; "
                "text and settings belong in the meta"
            )
    return named


def _path(pair: tuple) -> str:
    return _name(pair[0])


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=SEPARATOR) or "leaf"


def _is_numeric(leaf: Any) -> bool:
    if hasattr(leaf, "dtype"):
        return is_key(leaf) or np.dtype(leaf.dtype).kind not in "OSUMm"
    return isinstance(leaf, (bool, int, float, complex))


def is_key(leaf: Any) -> bool:
    """Whether a leaf holds typed PRNG keys."""
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def leaf_spec(leaf: Any) -> str:
    """Dtype and shape as text.

    >>> leaf_spec(np.zeros((2, 3), np.int8))
    'int8[2,3]'
    """
    if not hasattr(leaf, "dtype"):
        leaf = np.asarray(leaf)
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def leaf_specs(tree: Any) -> dict[str, str]:
    """The spec of every leaf by path."""
    return {name: leaf_spec(leaf) for name, leaf in named_leaves(tree).items()}


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts from paths.

    >>> nested({"a/b": 1, "a/c": 2})
    {'a': {'b': 1, 'c': 2}}
    """
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *parents, last = name.split(SEPARATOR)
        folder = tree
        for parent in parents:
            folder = folder.setdefault(parent, {})
        folder[last] = leaf
    return tree


def host_array(leaf: Any) -> np.ndarray:
    """The values of a leaf on the host, whole; key data where it holds keys."""
    if is_key(leaf):
        leaf = jax.random.key_data(leaf)
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        from jax.experimental import multihost_utils

        leaf = multihost_utils.process_allgather(leaf, tiled=True)
    return np.asarray(leaf)


def non_finite(leaves: Mapping[str, Any]) -> list[str]:
    """The paths of the floating leaves that hold NaN or infinity.

    Computed where the arrays are: one bit per leaf comes to the host.
    """
    flags: dict[str, Any] = {}
    groups: dict[Any, dict[str, Any]] = collections.defaultdict(dict)
    for name, leaf in leaves.items():
        if is_key(leaf) or not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            continue
        if isinstance(leaf, jax.Array):  # one jitted call per set of devices
            groups[frozenset(leaf.sharding.device_set)][name] = leaf
        else:
            flags[name] = np.isfinite(leaf).all()
    for group in groups.values():
        flags |= jax.device_get(_all_finite(group))
    return [name for name in leaves if not flags.get(name, True)]


@jax.jit
def _all_finite(leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: jnp.isfinite(leaf).all() for name, leaf in leaves.items()}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed between two flat tables, one line each: "key: old -> new".

    >>> differences({"a": 1, "b": 2}, {"b": 3, "c": 4})
    ['a: 1 -> absent', 'b: 2 -> 3', 'c: absent -> 4']
    """
    keys = sorted({*old, *new})
    return [
        f"{key}: {old.get(key, 'absent')} -> {new.get(key, 'absent')}"
        for key in keys
        if key not in old or key not in new or old[key] != new[key]
    ]


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one table with dotted keys.

    >>> flat({"model": {"embed_dim": 8}, "stage": "sft"})
    {'model.embed_dim': 8, 'stage': 'sft'}
    """
    table: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            table |= flat(value, f"{prefix}{key}.")
        else:
            table[f"{prefix}{key}"] = value
    return table


def listed(lines: Iterable[str], most: int = 20) -> str:
    """Lines of a message, indented, the surplus counted."""
    lines = list(lines)
    more = [f"... and {len(lines) - most} more"] if len(lines) > most else []
    return "\n".join(f"  {line}" for line in lines[:most] + more)

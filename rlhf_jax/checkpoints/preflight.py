"""Does a checkpoint fit the run? Asked of its manifest, before any array is read."""

import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.checkpoints.leaves import (
    differences,
    flat,
    leaf_spec,
    listed,
    named_leaves,
)
from rlhf_jax.errors import CheckpointError, InputError


def check_leaves(
    path: pathlib.Path, saved: Mapping[str, str], wanted: Mapping[str, str]
) -> None:
    """Raises InputError, listing them, where paths, shapes or dtypes differ."""
    if changed := differences(saved, wanted):
        raise InputError(
            f"{path} holds another state than this run has (checkpoint -> run):\n"
            f"{listed(changed)}\n"
            "Use the config it was made with, or begin in another directory."
        )


def check_identity(
    path: pathlib.Path,
    saved: Mapping[str, Any],
    wanted: Mapping[str, Any],
    override: Collection[str],
) -> None:
    """Raises InputError, listing them, where settings outside `override` differ.

    A key of `override` covers all keys below it: "model" covers "model.embed_dim".
    """
    changed = differences(flat(saved), flat(wanted))
    refused = [line for line in changed if not _covered(line.split(": ")[0], override)]
    if refused:
        key = refused[0].split(": ")[0]
        raise InputError(
            f"{path} belongs to another run (checkpoint -> run):\n{listed(refused)}\n"
            "To go on all the same, override each key by name, such as "
            f"override=({key!r},)"
        )


def _covered(key: str, override: Collection[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in override)


def subtree_like(
    path: pathlib.Path, saved: Mapping[str, str], subtree: str, template: Any
) -> dict[str, Any]:
    """By full path, what to read for a part of a state.

    Args:
      path: the checkpoint, for messages.
      saved: specs of the checkpoint's leaves.
      subtree: path of the part.
      template: see `CheckpointStore.restore_params`.

    Returns:
      Descriptions of the leaves for `ArrayFiles.read`, in the order of `template`.

    Raises:
      InputError: no such part, or a leaf is absent or has another shape.
      CheckpointError: the manifest claims more bytes than the machine has.
    """
    inside = {n: s for n, s in saved.items() if n.startswith(f"{subtree}/")}
    if not inside:
        tops = sorted({name.split("/")[0] for name in saved})
        raise InputError(f"{path} has nothing under {subtree!r}; it has {tops}")
    if template is None:
        return _host_like(path, inside)
    wanted = {f"{subtree}/{n}": leaf for n, leaf in named_leaves(template).items()}
    specs = {name: leaf_spec(leaf) for name, leaf in wanted.items()}
    expected = {
        name: spec
        for name, spec in specs.items()
        if not _castable(inside.get(name, ""), spec)
    }
    if expected:
        found = {name: inside[name] for name in expected if name in inside}
        raise InputError(
            f"{path} does not hold what is asked of {subtree!r} (checkpoint -> "
            f"asked):\n{listed(differences(found, expected))}"
        )
    return wanted


def _castable(saved: str, wanted: str) -> bool:
    """Equal specs, or floats of another width and the same shape."""
    if saved == wanted:
        return True
    (a, _, shape), (b, _, other) = saved.partition("["), wanted.partition("[")
    return (
        shape == other
        and a.startswith(("float", "bf"))
        and b.startswith(("float", "bf"))
    )


def _host_like(path: pathlib.Path, specs: Mapping[str, str]) -> dict[str, Any]:
    like: dict[str, Any] = {}
    total = 0
    for name, spec in specs.items():
        dtype, _, shape = spec.rstrip("]").partition("[")
        sizes = tuple(int(size) for size in shape.split(",") if size)
        if dtype.startswith("key<"):
            like[name] = jax.ShapeDtypeStruct(sizes, _key_dtype(path, dtype))
            continue
        dtype = np.dtype(jnp.dtype(dtype))
        total += dtype.itemsize * int(np.prod(sizes, dtype=object))
        like[name] = (sizes, dtype)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if total > memory:
        raise CheckpointError(
            f"{path}: claims {total / 1e9:.3g} GB of arrays, more than this machine "
            f"holds ({memory / 1e9:.3g} GB)"
        )
    return {
        name: np.broadcast_to(np.zeros((), leaf[1]), leaf[0])
        if isinstance(leaf, tuple)
        else leaf
        for name, leaf in like.items()
    }


def _key_dtype(path: pathlib.Path, name: str) -> Any:
    for implementation in ("threefry2x32", "rbg", "unsafe_rbg"):
        dtype = jax.random.key(0, impl=implementation).dtype
        if str(dtype) == name:
            return dtype
    raise CheckpointError(f"{path}: keys of an unknown kind: {name}")

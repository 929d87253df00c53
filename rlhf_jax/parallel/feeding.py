"""From the host to the mesh: rows of a batch go to the devices that train them."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from rlhf_jax.errors import InputError
from rlhf_jax.layouts import BATCH_AXES
from rlhf_jax.parallel.sharding import batch_sharding, path_name


def put_batch(batch: Any, mesh: Mesh, *, per_host: bool = False) -> Any:
    """Puts a batch of numpy arrays on the mesh, rows cut over ("data", "fsdp").

    Batches are pure functions of the step, so every process can make the whole global
    batch, and then its devices take their rows from it: the data order does not depend
    on the number of processes. Where making a batch is dear, a process makes only
    `local_rows` and says `per_host=True`.

    Args:
      batch: tree of numpy arrays [B, ...] (rank 0 is copied); `jax.Array`s that lie
        elsewhere are moved, those in place are passed on.
      mesh: the mesh.
      per_host: each process holds only its own rows.

    Returns:
      The tree of global `jax.Array`s [B, ...].

    Raises:
      InputError: B is not a multiple of the number of row shards.
    """

    if not per_host:
        check_batch(batch, mesh)

    def one(rows: Any) -> jax.Array:
        place = batch_sharding(mesh, np.ndim(rows))
        if isinstance(rows, jax.Array):
            return _moved(rows, place)
        rows = np.asarray(rows)
        if jax.process_count() == 1:
            return jax.device_put(rows, place)
        if per_host and rows.ndim:
            return jax.make_array_from_process_local_data(place, rows)
        return jax.make_array_from_callback(rows.shape, place, rows.__getitem__)

    return jax.tree.map(one, batch)


def check_batch(batch: Any, mesh: Mesh) -> None:
    """Raises InputError for a leaf whose rows cannot be cut over the mesh, by name.

    Such rows would be copied to every device, and each would compute all of them.

    Args:
      batch: tree of arrays or shapes; leaves of rank 0 are no rows.
      mesh: the mesh.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        if np.ndim(leaf):
            _check_rows(path_name(path), np.shape(leaf)[0], mesh)


def whole_rows(count: int, mesh: Mesh) -> int:
    """The least number of rows from `count` up that can be cut over the mesh."""
    ways = _row_ways(mesh)
    return -(-count // ways) * ways


def take_rows(tree: Any, rows: Any, mesh: Mesh) -> Any:
    """Some rows of every leaf, cut over the mesh: a minibatch of a rollout.

    Args:
      tree: arrays [B, ...] on the mesh.
      rows: which [N], in any order.
      mesh: the mesh.

    Returns:
      The tree of [N, ...], rows cut over ("data", "fsdp").

    Raises:
      InputError: N is not a multiple of the number of row shards.
    """
    _check_rows("rows", len(rows), mesh)
    return _taking(mesh)(tree, rows)


@functools.cache
def _taking(mesh: Mesh) -> Callable:
    def take(tree: Any, rows: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[rows], tree)

    return jax.jit(take, out_shardings=batch_sharding(mesh))


def _moved(rows: jax.Array, place: NamedSharding) -> jax.Array:
    """`rows` where they belong; themselves if they are there."""
    if rows.sharding.is_equivalent_to(place, rows.ndim):
        return rows
    if rows.is_fully_addressable and jax.process_count() == 1:
        return jax.device_put(rows, place)
    if rows.is_fully_addressable:  # of this process alone: each has the same
        host = np.asarray(rows)
        return jax.make_array_from_callback(host.shape, place, host.__getitem__)
    return jax.jit(lambda array: array, out_shardings=place)(rows)


def local_rows(batch_size: int, mesh: Mesh) -> slice:
    """The rows of a global batch that this process's devices train.

    Raises:
      InputError: the rows of this process are not one contiguous block; give the
        whole batch to `put_batch` instead.
    """
    _check_rows("batch", batch_size, mesh)
    places = batch_sharding(mesh).addressable_devices_indices_map((batch_size,))
    blocks = {index[0].indices(batch_size)[:2] for index in places.values()}
    first, last = min(start for start, _ in blocks), max(stop for _, stop in blocks)
    if sum(stop - start for start, stop in blocks) != last - first:
        raise InputError("this mesh gives a process rows that are not contiguous")
    return slice(first, last)


def _check_rows(name: str, rows: int, mesh: Mesh) -> None:
    ways = _row_ways(mesh)
    if rows % ways:
        raise InputError(
            f"{name}: {rows} rows cannot be cut over data x fsdp = {ways} devices; "
            f"use a multiple of {ways}"
        )


def _row_ways(mesh: Mesh) -> int:
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)

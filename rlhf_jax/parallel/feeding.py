"""From the host to the mesh: rows of a batch go to the devices that train them."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from rlhf_jax.errors import InputError
from rlhf_jax.parallel.mesh import BATCH_AXES
from rlhf_jax.parallel.sharding import batch_sharding, path_name


def put_batch(batch: Any, mesh: Mesh, *, per_host: bool = False) -> Any:
    """Puts a batch of numpy arrays on the mesh, rows cut over ("data", "fsdp").

    Batches are pure functions of the step, so every process can make the whole global
    batch, and then its devices take their rows from it: the data order does not depend
    on the number of processes. Where making a batch is dear, a process makes only
    `local_rows` and says `per_host=True`.

    Args:
      batch: tree of numpy arrays [B, ...] (rank 0 is copied); `jax.Array`s pass
        through as they are.
      mesh: the mesh.
      per_host: each process holds only its own rows.

    Returns:
      The tree of global `jax.Array`s [B, ...].

    Raises:
      InputError: B is not a multiple of the number of row shards.
    """

    def one(path: tuple, rows: Any) -> jax.Array:
        if isinstance(rows, jax.Array):
            return rows
        rows = np.asarray(rows)
        place = batch_sharding(mesh, rows.ndim)
        if rows.ndim and not per_host:
            _check_rows(path_name(path), rows.shape[0], mesh)
        if jax.process_count() == 1:
            return jax.device_put(rows, place)
        if per_host and rows.ndim:
            return jax.make_array_from_process_local_data(place, rows)
        return jax.make_array_from_callback(rows.shape, place, rows.__getitem__)

    return jax.tree_util.tree_map_with_path(one, batch)


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
    ways = int(np.prod([mesh.shape[axis] for axis in BATCH_AXES]))
    if rows % ways:
        raise InputError(
            f"{name}: {rows} rows cannot be cut over data x fsdp = {ways} devices; "
            f"use a multiple of {ways}"
        )

"""The second driver: the same update, mapped over devices by `jax.pmap`.

Each device holds the whole state and some rows. The update is given the name of the
mapped axis: it divides by the global number of trained tokens and adds gradients over
devices. (The usual idiom, the pmean of per-device masked means, weighs a token by how
many others its device happens to hold: on uneven masks the gradient is wrong.)
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

AXIS = "devices"


def pmap_update(
    update: Callable[..., tuple[Any, Any]],
    devices: Sequence[jax.Device] | None = None,
    *,
    donate: bool = True,
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Maps an update of `make_update` over devices.

    Args:
      update: `(state, batch, *, axis_name) -> (state, metrics)`.
      devices: the devices; all local ones when None.
      donate: reuse the buffers of the state that goes in.

    Returns:
      `(state, batch) -> (state, metrics)` on a `replicate`d state and a batch of
      `split_rows`; every leaf has a leading device axis.
    """
    return jax.pmap(
        functools.partial(update, axis_name=AXIS),
        axis_name=AXIS,
        devices=devices,
        donate_argnums=(0,) if donate else (),
    )


def replicate(tree: Any, count: int | None = None) -> Any:
    """Copies every leaf to a leading device axis."""
    count = count or jax.local_device_count()
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(jnp.asarray(leaf), (count, *jnp.shape(leaf))),
        tree,
    )


def unreplicate(tree: Any) -> Any:
    """The first device's copy of every leaf."""
    return jax.tree.map(lambda leaf: leaf[0], tree)


def split_rows(batch: Any, count: int | None = None) -> Any:
    """[B, ...] -> [devices, B / devices, ...] for every leaf."""
    count = count or jax.local_device_count()
    return jax.tree.map(
        lambda rows: rows.reshape(count, rows.shape[0] // count, *rows.shape[1:]),
        batch,
    )

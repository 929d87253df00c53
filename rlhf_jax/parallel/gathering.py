"""Arrays of a mesh as NumPy arrays, on every process."""

from typing import Any

import jax

__all__ = ["to_host"]


def to_host(tree: Any) -> Any:
    """The whole of every array, also of those whose rows lie on other processes.

    A collective: with several processes all of them come here.
    """
    if jax.process_count() == 1:
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)

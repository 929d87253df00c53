"""Randomness by name: root key -> purpose -> step -> row.

A draw depends on what it is for, never on the order in which draws are made; so a run
that is cut and continued, or spread over more devices, draws the same.
"""

import zlib

import jax
from jaxtyping import Array, Key


def named_key(root: Key[Array, ""], purpose: str, *indices: int) -> Key[Array, ""]:
    """The key for `purpose` at `indices` (a step, an epoch, ...).

    Args:
      root: the run's key; not consumed.
      purpose: a name, such as "generate"; its CRC-32 is folded in.
      *indices: folded in, in order.

    >>> root = jax.random.key(0)
    >>> bool((named_key(root, "generate", 3) == named_key(root, "generate", 3)).all())
    True
    >>> bool((named_key(root, "generate", 3) == named_key(root, "shuffle", 3)).all())
    False
    """
    key = jax.random.fold_in(root, zlib.crc32(purpose.encode()))
    for index in indices:
        key = jax.random.fold_in(key, index)
    return key

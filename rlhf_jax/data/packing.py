"""Which rows share a sequence, and which share a length: the fight against padding."""

import bisect
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Int64

from rlhf_jax.errors import InputError


def pack(lengths: Int[np.ndarray, " n"], capacity: int) -> list[list[int]]:
    """Rows -> bins of at most `capacity` tokens: best fit, longest row first.

    Best-fit decreasing needs at most 11/9 of the least number of bins (Johnson 1973);
    on data with short rows the waste is a few per mille. The result depends on the
    lengths alone.

    >>> pack(np.array([5, 3, 6, 2]), 8)
    [[2, 3], [0, 1]]

    Args:
      lengths: tokens of each row, each at most `capacity`.
      capacity: tokens of a bin.

    Returns:
      Row indices per bin; every row in exactly one bin.

    Raises:
      InputError: a row is longer than a bin.
    """
    if len(lengths) and lengths.max() > capacity:
        raise InputError(
            f"packing: row {int(np.argmax(lengths))} has {int(lengths.max())} tokens, "
            f"expected at most {capacity}"
        )
    bins: list[list[int]] = []
    by_room: dict[int, list[int]] = {}  # free tokens -> bins with just so many
    rooms: list[int] = []  # the keys of by_room, sorted
    for row in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[row])
        at = bisect.bisect_left(rooms, length)
        if at == len(rooms):
            chosen, room = len(bins), capacity
            bins.append([])
        else:
            room = rooms[at]
            chosen = by_room[room].pop()
            if not by_room[room]:
                del by_room[room], rooms[at]
        bins[chosen].append(row)
        left = room - length
        if left not in by_room:
            bisect.insort(rooms, left)
            by_room[left] = []
        by_room[left].append(chosen)
    return bins


def bucket_of(
    lengths: Int[np.ndarray, " n"], buckets: Sequence[int]
) -> Int64[np.ndarray, " n"]:
    """The index of the least bucket that holds each row.

    >>> bucket_of(np.array([3, 4, 5]), [4, 8]).tolist()
    [0, 0, 1]

    Raises:
      InputError: buckets do not rise, or a row is longer than the last one.
    """
    edges = np.asarray(buckets)
    if len(edges) == 0 or np.any(np.diff(edges) <= 0):
        raise InputError(f"buckets: expected rising lengths, got {list(buckets)}")
    if len(lengths) and lengths.max() > edges[-1]:
        raise InputError(
            f"buckets: a row has {int(lengths.max())} tokens, expected at most "
            f"{int(edges[-1])}, the last bucket"
        )
    return np.searchsorted(edges, lengths, side="left").astype(np.int64)

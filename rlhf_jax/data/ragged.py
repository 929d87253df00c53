"""Rows of unequal length, kept flat: one array of values, one of offsets.

Flat arrays can lie on disk, and a batch is cut from them by index arithmetic, without
a Python loop over rows.
"""

import array
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64


@dataclass(frozen=True)
class Ragged:
    """n rows; row i is `values[offsets[i]:offsets[i + 1]]`.

    >>> rows = Ragged.from_rows([[1, 2, 3], [], [4]])
    >>> rows[0].tolist(), len(rows), rows.lengths.tolist()
    ([1, 2, 3], 3, [3, 0, 1])
    """

    values: Int32[np.ndarray, " total"]
    offsets: Int64[np.ndarray, " n_plus_1"]

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int]]) -> "Ragged":
        """Rows as lists -> flat arrays in memory."""
        writer = RaggedWriter()
        for row in rows:
            writer.append(row)
        return writer.finish()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Int32[np.ndarray, " length"]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> Int64[np.ndarray, " n"]:
        """The length of each row."""
        return np.diff(self.offsets)

    def padded(
        self, rows: Int[np.ndarray, " B"], length: int, fill: int, *, left: bool = False
    ) -> tuple[Int32[np.ndarray, "B T"], Bool[np.ndarray, "B T"]]:
        """Rows side by side in a rectangle.

        >>> tokens, valid = Ragged.from_rows([[1, 2, 3], [4]]).padded(
        ...     np.array([1, -1, 0]), 2, fill=9, left=True)
        >>> tokens.tolist(), valid.astype(int).tolist()
        ([[9, 4], [9, 9], [1, 2]], [[0, 1], [0, 0], [1, 1]])

        Args:
          rows: indices of rows; -1 gives a row of filler.
          length: T; longer rows are cut on the right.
          fill: what stands where nothing is.
          left: put the filler before the row instead of behind it.

        Returns:
          (tokens, valid): `valid` is True where a token of the row stands.
        """
        present = rows >= 0
        safe = np.where(present, rows, 0)
        if len(self) == 0 or len(self.values) == 0:
            shape = (len(rows), length)
            return np.full(shape, fill, np.int32), np.zeros(shape, bool)
        counts = np.minimum(self.offsets[safe + 1] - self.offsets[safe], length)
        counts = np.where(present, counts, 0)
        column = np.arange(length)[None, :]
        if left:
            column = column - (length - counts)[:, None]
        valid = (column >= 0) & (column < counts[:, None])
        source = np.where(valid, self.offsets[safe][:, None] + column, 0)
        tokens = np.where(valid, self.values[source], np.int32(fill))
        return tokens.astype(np.int32, copy=False), valid


class RaggedWriter:
    """Collects rows one by one, in memory or, with a path, on disk.

    On disk, memory holds the offsets (8 bytes per row) and one buffer; the values go
    to `path` as int32.
    """

    BUFFER = 1 << 20  # values held before they are written

    def __init__(self, path: str | pathlib.Path | None = None):
        self._file = None if path is None else open(path, "wb")
        self._path = path
        self._buffer = array.array("i")
        self._offsets = array.array("q", [0])

    def append(self, row: Sequence[int]) -> None:
        """Adds one row."""
        self._buffer.extend(row)
        self._offsets.append(self._offsets[-1] + len(row))
        if self._file is not None and len(self._buffer) >= self.BUFFER:
            self._flush()

    def _flush(self) -> None:
        self._buffer.tofile(self._file)
        self._buffer = array.array("i")

    def finish(self) -> Ragged:
        """The rows; on disk, as a read-only memory map."""
        offsets = np.frombuffer(self._offsets, np.int64)
        if self._file is None:
            return Ragged(np.frombuffer(self._buffer, np.int32), offsets)
        self._flush()
        self._file.close()
        if offsets[-1] == 0:  # an empty file cannot be mapped
            return Ragged(np.zeros(0, np.int32), offsets)
        return Ragged(np.memmap(self._path, np.int32, mode="r"), offsets)

"""Rows of a large JSONL file by number, without holding the file in memory."""

import os
import pathlib
from collections.abc import Iterator

import numpy as np

from rlhf_jax.data.readers.formats import told
from rlhf_jax.data.readers.own import KNOWN, record_of
from rlhf_jax.data.records import Record
from rlhf_jax.data.rows import Row, RowError, as_dict, parsed
from rlhf_jax.errors import InputError

__all__ = ["JsonlIndex"]

BLOCK = 1 << 20


class JsonlIndex:
    """Own JSONL as a sequence: `index[i]` reads row i from disk.

    Building reads the file once in blocks of 1 MiB; 8 bytes per row are kept, in a
    file if `cache` names one (memory-mapped, and used again as long as the JSONL has
    the same size and time of change). Blank lines are no rows. A row without an id has
    the one that `read` gives it; the first such row costs another reading of the file.

    Args:
      path: an uncompressed JSONL file of records.
      cache: an `.npy` file for the offsets; in memory when None.

    Raises:
      InputError: no such file, or it is compressed.
    """

    def __init__(
        self, path: str | pathlib.Path, cache: str | pathlib.Path | None = None
    ):
        self.path = pathlib.Path(path)
        try:
            self._file = open(self.path, "rb")
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
        if self._file.read(2) == b"\x1f\x8b":
            raise InputError(
                f"{path}: expected an unpacked file, for reading by number"
            )
        self._offsets = self._scanned() if cache is None else self._cached(cache)
        self._lines: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._offsets) - 2  # the first two numbers are the file's stamp

    def __getitem__(self, row: int) -> Record:
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        at = int(self._offsets[2 + row % len(self)])
        line = os.pread(self._file.fileno(), BLOCK, at)
        while b"\n" not in line:
            more = os.pread(self._file.fileno(), BLOCK, at + len(line))
            if not more:
                break
            line += more
        return self._record(line.partition(b"\n")[0], row, at)

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))

    def _record(self, line: bytes, row: int, at: int) -> Record:
        from pydantic import ValidationError

        try:
            value = as_dict(parsed(line.removeprefix(b"\xef\xbb\xbf")), "")
            known = {k: v for k, v in value.items() if k in KNOWN}
            return record_of(known, "" if "id" in known else self._name(row))
        except (RowError, ValidationError) as error:
            error = told(error) if isinstance(error, ValidationError) else error
            place = f"{self.path}: row {row} (byte {at})"
            raise InputError(f"{place}: {error}") from error

    def _name(self, row: int) -> str:
        if self._lines is None:
            self._lines = self._numbered()
        return Row(str(self.path), int(self._lines[row]), None).name

    def _numbered(self) -> np.ndarray:
        """The line, counted from 1, on which each row stands."""
        offsets = self._offsets[2:]
        lines = np.ones(len(offsets), np.int64)
        at, seen = 0, 0
        while block := os.pread(self._file.fileno(), BLOCK, at):
            ends = at + np.flatnonzero(np.frombuffer(block, np.uint8) == 10)
            here = slice(*np.searchsorted(offsets, [at, at + len(block)]))
            lines[here] += seen + np.searchsorted(ends, offsets[here])
            at, seen = at + len(block), seen + len(ends)
        return lines

    def _stamp(self) -> list[int]:
        status = os.fstat(self._file.fileno())
        return [status.st_size, status.st_mtime_ns]

    def _scanned(self) -> np.ndarray:
        """The stamp, then the offset of every line that is not blank."""
        found = [np.array(self._stamp(), np.int64)]
        self._file.seek(0)
        at, start, blank = 0, 0, True
        while block := self._file.read(BLOCK):
            offsets = []
            position = 0
            for end in np.flatnonzero(np.frombuffer(block, np.uint8) == 10).tolist():
                blank = blank and not block[position:end].strip()
                if not blank:
                    offsets.append(start)
                position, start, blank = end + 1, at + end + 1, True
            blank = blank and not block[position:].strip()
            at += len(block)
            found.append(np.array(offsets, np.int64))
        if not blank:
            found.append(np.array([start], np.int64))
        return np.concatenate(found)

    def _cached(self, cache: str | pathlib.Path) -> np.ndarray:
        cache = pathlib.Path(cache)
        if cache.exists():
            try:
                offsets = np.load(cache, mmap_mode="r", allow_pickle=False)
                if offsets[:2].tolist() == self._stamp():
                    return offsets
            except (ValueError, OSError, EOFError):
                pass  # not an index: it is made again
        temporary = cache.with_name(f".{cache.stem}.{os.getpid()}.npy")
        np.save(temporary, self._scanned())
        temporary.replace(cache)
        return np.load(cache, mmap_mode="r", allow_pickle=False)

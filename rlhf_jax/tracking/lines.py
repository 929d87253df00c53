"""Lines of JSON with a step, each written once, also by a run that was killed.

    {"step": 12, "loss": 2.31, "grad_norm": 0.8, "seconds": 0.21}

Numbers that are not finite stand as the text "NaN", "Infinity" or "-Infinity", so that
every line is valid JSON; `float()` reads them back, and `read_metrics` does.
"""

import json
import logging
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from rlhf_jax.errors import InputError
from rlhf_jax.faults import fault
from rlhf_jax.storage import no_links

logger = logging.getLogger("rlhf_jax.tracking")

_NOT_FINITE = {"NaN", "Infinity", "-Infinity"}


class LineFile:
    """An append-only file of JSON lines in the order of their steps."""

    def __init__(self, path: str | os.PathLike):
        """Opens or makes the file; a line torn by a kill is cut off.

        Raises:
          InputError: the file cannot be written, or an earlier line is not JSON.
        """
        self.path = pathlib.Path(path)
        try:
            self._file = open(self.path, "ab", buffering=0, opener=no_links)
        except OSError as error:
            raise InputError(f"{self.path}: {error.strerror}") from error
        self._cut_torn_end()
        self.last_step = max((step for step, _ in self._steps()), default=None)

    def append(self, step: int, fields: Mapping[str, Any]) -> None:
        """Writes one line; whole or not at all.

        Raises:
          InputError: the disk is full or gone.
        """
        row = {"step": step} | {key: _plain(value) for key, value in fields.items()}
        line = json.dumps(row, allow_nan=False).encode() + b"\n"
        size = os.fstat(self._file.fileno()).st_size
        try:
            fault("tracking.line")
            if self._file.write(line) != len(line):
                raise OSError(None, "No space left on device")
        except OSError as error:
            os.ftruncate(self._file.fileno(), size)
            raise InputError(
                f"{self.path}: step {step} could not be written: {error.strerror}"
            ) from error
        self.last_step = step

    def rewind(self, step: int) -> int:
        """Drops the lines of later steps; returns how many."""
        later = [start for found, start in self._steps() if found > step]
        if later:
            os.ftruncate(self._file.fileno(), min(later))
            os.fsync(self._file.fileno())
        self.last_step = max((found for found, _ in self._steps()), default=None)
        return len(later)

    def close(self) -> None:
        """Forces all lines to the disk."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def _cut_torn_end(self) -> None:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        while whole and not _is_json(data[data.rfind(b"\n", 0, whole - 1) + 1 : whole]):
            whole = data.rfind(b"\n", 0, whole - 1) + 1  # zeros after a power cut
        if whole < len(data):
            logger.warning("%s: a torn last line was removed", self.path)
            os.ftruncate(self._file.fileno(), whole)

    def _steps(self) -> Iterator[tuple[int, int]]:
        """(step, offset) of each line."""
        start = 0
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield int(json.loads(line)["step"]), start
                except (ValueError, KeyError, TypeError) as error:
                    raise InputError(
                        f"{self.path}:{number}: not a line of metrics with a step"
                    ) from error
                start += len(line)


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The lines of a run, in the order of their steps; a torn last one is left out.

    Args:
      path: `metrics.jsonl` or the directory that holds it.

    Raises:
      InputError: no such file, or a line that is not JSON.
    """
    path = pathlib.Path(path)
    path = path / "metrics.jsonl" if path.is_dir() else path
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise InputError(f"{path}:{number}: not JSON") from error
        rows.append({key: _number(value) for key, value in row.items()})
    return rows


def _plain(value: Any) -> Any:
    """A value in types of JSON."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if isinstance(value, (str, int, float, type(None))) else str(value)


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) and value in _NOT_FINITE else value


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True

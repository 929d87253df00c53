"""Lines of a file -> values, with every bad row told by file, line, field and reason.

Nothing is believed: bytes may not be UTF-8, JSON may be cut off, hold a key twice, NaN
or half a surrogate pair; a line may be gigabytes long. A bad row becomes a `RowError`;
what happens then is the decision of an `Intake`.
"""

import json
import math
import pathlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Literal

from rlhf_jax.data.unpacked import opened, readable
from rlhf_jax.errors import InputError

__all__ = ["Intake", "Row", "RowError", "numbered_lines"]

MAX_LINE = 64 << 20  # bytes; a longer line is no row but an accident or an attack
SHOWN = 20  # rejected rows that a message spells out
STOP_AFTER = 1000  # rejected rows after which "error" reads no further


class RowError(ValueError):
    """One bad row: which field, and why; the place is added by the `Intake`."""

    def __init__(self, field: str, why: str):
        super().__init__(f"{field}: {why}" if field else why)
        self.field, self.why = field, why


@dataclass(frozen=True)
class Row:
    """One value of a file and where it stood.

    What a reader leaves out of a row without refusing it, it writes into `notes`.
    """

    file: str
    line: int
    value: Any
    raw: bytes = b""
    nth: int = 1  # of the rows that begin on this line, which one
    notes: list[str] = field(default_factory=list, compare=False)

    @property
    def name(self) -> str:
        """An id for rows that bring none: file name and line.

        >>> Row("data/a.json", 7, {}).name, Row("data/a.json", 7, {}, nth=2).name
        ('a.json:7', 'a.json:7.2')
        """
        nth = f".{self.nth}" if self.nth > 1 else ""
        return f"{pathlib.PurePath(self.file).name}:{self.line}{nth}"

    def text(self, key: str) -> str:
        """The text under a key, which must be there."""
        if key not in self.value:
            raise RowError(key, "missing, expected text")
        return as_text(self.value[key], key)

    def optional_text(self, key: str) -> str | None:
        """The text or number under a key as text; None where there is none."""
        value = self.value.get(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return None if value is None else str(value)
        return as_text(value, key)

    def has(self, key: str) -> bool:
        """Whether there is anything under a key."""
        return self.value.get(key) not in (None, "", [], {})


def as_text(value: Any, field: str) -> str:
    """`value`, which must be text."""
    if not isinstance(value, str):
        raise RowError(field, f"expected text, got {type(value).__name__}")
    return value


def as_number(value: Any, field: str) -> float:
    """`value`, which must be a finite number or the text of one."""
    try:
        number = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise RowError(field, f"expected a number, got {str(value)[:40]!r}")
    return number


def as_list(value: Any, field: str) -> list:
    """`value`, which must be a list."""
    if not isinstance(value, list):
        raise RowError(field, f"expected a list, got {type(value).__name__}")
    return value


def as_dict(value: Any, field: str) -> dict:
    """`value`, which must be an object."""
    if not isinstance(value, dict):
        raise RowError(field, f"expected an object, got {type(value).__name__}")
    return value


@dataclass
class Intake:
    """What becomes of bad rows, and the book of what was read.

    Args:
      on_bad_row: "error" refuses the whole reading, once it has seen all bad rows (or
        a thousand); "skip" leaves them out; "quarantine" leaves them out and keeps
        them, with the reason, in `rejects`.
      rejects: where "quarantine" writes, as JSONL; the file takes its name when the
        intake is closed (`with Intake(...) as intake:`).

    Attributes:
      rows: rows seen, bad ones included.
      records: records made.
      rejected: bad rows.
      messages: `file:line: field: why` of the first bad rows.
      warnings: what was odd but accepted, counted; `first` has a place for each.
      left: why rows gave no record, counted; `first` has a place for each.
    """

    on_bad_row: Literal["error", "skip", "quarantine"] = "error"
    rejects: str | pathlib.Path = "rejects.jsonl"
    rows: int = 0
    records: int = 0
    rejected: int = 0
    messages: list[str] = field(default_factory=list)
    warnings: Counter = field(default_factory=Counter)
    left: Counter = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    _quarantine: IO[str] | None = None

    def warn(self, what: str, file: str, line: int) -> None:
        """Counts something odd."""
        self.warnings[what] += 1
        self.first.setdefault(what, f"{file}:{line}")

    def noted(self, row: Row, records: int) -> None:
        """Books a row's notes; without a record, the first is why it is left out."""
        notes = list(row.notes)
        if records == 0:
            self.leave(row, notes.pop(0) if notes else "without a record")
        for note in notes:
            self.warn(note, row.file, row.line)

    def leave(self, row: Row, why: str) -> None:
        """Books a row that gives no record."""
        self.left[why] += 1
        self.first.setdefault(why, f"{row.file}:{row.line}")

    def reject(self, row: Row, error: RowError) -> None:
        """Books a bad row; raises when "error" has seen enough of them."""
        self.rejected += 1
        message = f"{row.file}:{row.line}: {error}"
        if len(self.messages) < SHOWN:
            self.messages.append(message)
        if self.on_bad_row == "quarantine":
            self._keep(row, error)
        if self.on_bad_row == "error" and self.rejected >= STOP_AFTER:
            self.settle()

    def _keep(self, row: Row, error: RowError) -> None:
        try:
            if self._quarantine is None:
                self._quarantine = open(self._partial, "w", encoding="utf-8")
            kept = {
                "file": row.file,
                "line": row.line,
                "field": error.field,
                "why": error.why,
                "row": row.raw.decode("utf-8", "backslashreplace"),
            }
            text = json.dumps(kept, ensure_ascii=True)
            self._quarantine.write(text + "\n")
        except OSError as problem:
            raise InputError(f"{self.rejects}: {problem.strerror}") from problem

    @property
    def _partial(self) -> pathlib.Path:
        path = pathlib.Path(self.rejects)
        return path.with_name(f".{path.name}.partial")

    def settle(self) -> None:
        """Ends the reading of a file.

        Raises:
          InputError: "error", and there were bad rows; lists the first and the total.
        """
        if self.on_bad_row == "error" and self.rejected:
            more = self.rejected - len(self.messages)
            tail = [f"... and {more} more bad rows"] if more else []
            raise InputError("\n".join([*self.messages, *tail]))

    def close(self) -> None:
        """Gives the quarantined rows their file, if there were any."""
        if self._quarantine is not None:
            self._quarantine.close()
            self._quarantine = None
            self._partial.replace(self.rejects)

    def __enter__(self) -> "Intake":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def numbered_lines(
    path: str | pathlib.Path, intake: Intake, *, keep_ends: bool = False
) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, bytes without the line end); memory is one line.

    A byte order mark and, unless `keep_ends`, CRLF are taken off and counted as
    warnings.

    Raises:
      InputError: a line over 64 MiB, or damaged gzip data.
    """
    name, number = str(path), 0
    with opened(path) as file:
        while True:
            with readable(name, number + 1):
                line = file.readline(MAX_LINE + 1)
            if not line:
                return
            number += 1
            if len(line) > MAX_LINE:
                raise InputError(
                    f"{name}:{number}: expected a line under {MAX_LINE >> 20} MiB"
                )
            if number == 1 and line.startswith(b"\xef\xbb\xbf"):
                intake.warn("byte order mark", name, 1)
                line = line[3:]
            if keep_ends:
                yield number, line
                continue
            if line.endswith(b"\r\n"):
                intake.warn("CRLF line end", name, number)
            yield number, line.rstrip(b"\r\n")

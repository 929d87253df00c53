"""Files that are one JSON array of rows, as Alpaca was published."""

import json
import pathlib
import re
from collections.abc import Iterator

from rlhf_jax.data.rows import Intake, Row, RowError
from rlhf_jax.data.strict_json import STRICT, json_rows, no_lone_surrogate
from rlhf_jax.data.unpacked import opened, readable
from rlhf_jax.errors import InputError

__all__ = ["array_rows", "json_file_rows"]

LARGEST = 1 << 30  # bytes; an array is held in memory whole, JSON lines are not
BETWEEN = re.compile(r"[\s,]*")


def json_file_rows(path: str | pathlib.Path, intake: Intake) -> Iterator[Row]:
    """Rows of a JSON array or of JSON lines, whichever the file is."""
    with opened(path) as file, readable(str(path), 1):
        head = file.read(256).removeprefix(b"\xef\xbb\xbf").lstrip()
    return (array_rows if head[:1] == b"[" else json_rows)(path, intake)


def array_rows(path: str | pathlib.Path, intake: Intake) -> Iterator[Row]:
    """One row per element, told by the line on which it begins.

    An element that breaks the syntax ends the reading, since nobody can tell where the
    next one begins.

    Raises:
      InputError: the file is over 1 GiB, or not UTF-8.
    """
    name = str(path)
    text = _whole(path)
    decoder = json.JSONDecoder(**STRICT)
    at, line = text.index("[") + 1, 1
    counted, before, nth = 0, 0, 1
    while True:
        at = BETWEEN.match(text, at).end()
        line += text.count("\n", counted, at)
        counted = at
        if text.startswith("]", at):
            return
        intake.rows += 1
        nth, before = (nth + 1 if line == before else 1), line
        try:
            value, end = decoder.raw_decode(text, at)
            no_lone_surrogate(value)
        except RowError as error:  # one of ours: NaN, a key twice, half a surrogate
            intake.reject(Row(name, line, None), error)
            return
        except (ValueError, RecursionError) as error:
            why = f"expected JSON: {getattr(error, 'msg', error)}"
            intake.reject(Row(name, line, None), RowError("", why))
            return
        raw = text[at : min(end, at + 10_000)].encode("utf-8", "backslashreplace")
        yield Row(name, line, value, raw, nth)
        at = end


def _whole(path: str | pathlib.Path) -> str:
    with opened(path) as file, readable(str(path), 1):
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise InputError(f"{path}: expected a JSON array under 1 GiB, or JSON lines")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        raise InputError(f"{path}:{line}: expected UTF-8, got 0x{byte:02x}") from error

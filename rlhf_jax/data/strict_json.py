"""JSON without the liberties of the standard library's: UTF-8, no NaN, no key twice."""

import json
import math
import pathlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rlhf_jax.data.rows import Intake, Row, RowError, numbered_lines

__all__ = ["STRICT", "json_rows", "no_lone_surrogate", "parsed"]


def json_rows(path: str | pathlib.Path, intake: Intake) -> Iterator[Row]:
    """One row per line of JSON; lines that are not JSON go to the intake."""
    name = str(path)
    for number, line in numbered_lines(path, intake):
        if not line.strip():
            intake.warn("blank line", name, number)
            continue
        intake.rows += 1
        try:
            yield Row(name, number, parsed(line), line)
        except RowError as error:
            intake.reject(Row(name, number, None, line), error)


def parsed(line: bytes) -> Any:
    """Strict JSON: UTF-8, no NaN, no key twice, no half surrogate pair.

    Raises:
      RowError: says which, and where in the line.
    """
    try:
        text = line.decode("utf-8")
        value = json.loads(text, **STRICT)
        if "\\u" in text:
            no_lone_surrogate(value)
    except RowError:
        raise
    except UnicodeDecodeError as error:
        why = f"expected UTF-8, byte {error.start + 1} is 0x{line[error.start]:02x}"
        raise RowError("", why) from error
    except json.JSONDecodeError as error:
        why = f"expected JSON: {error.msg} at character {error.pos + 1}"
        raise RowError("", why) from error
    except RecursionError as error:
        raise RowError("", "expected JSON: nested too deeply") from error
    except ValueError as error:  # an integer of thousands of digits
        raise RowError("", f"expected JSON: {error}") from error
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = [key for key, n in Counter(key for key, _ in pairs).items() if n > 1]
        raise RowError(twice[0], "key occurs more than once")
    return value


def _no_constant(name: str):
    raise RowError("", f"expected JSON: {name} is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise RowError("", f"expected a finite number, got {digits[:20]}")
    return number


# what strict JSON adds to the standard library's
STRICT = {
    "object_pairs_hook": _unique_keys,
    "parse_constant": _no_constant,
    "parse_float": _finite,
}


def no_lone_surrogate(value: Any) -> None:
    """Refuses text that cannot be written as UTF-8.

    Raises:
      RowError: there is some.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowError("", "half of a surrogate pair in a \\u escape") from error

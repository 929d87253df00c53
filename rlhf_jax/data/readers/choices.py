"""What a column that says which response is best may hold, and the ranks it means."""

from collections.abc import Sequence
from typing import Any

from rlhf_jax.data.readers.arena import BAD, TIED
from rlhf_jax.data.rows import RowError

__all__ = ["ranks_of_choice"]

SIDES = ("model", "response", "answer", "assistant", "output", "completion", "option")


def ranks_of_choice(
    value: Any, responses: Sequence[Any], names: Sequence[str], field: str
) -> list[int]:
    """1 for the response that is named, 2 for the others; all 1 for a tie.

    >>> ranks_of_choice("B", ["yes", "no"], [], "label")
    [2, 1]

    Args:
      value: a place counted from 0, a letter (a is the first), the column of the
        response, a letter behind a name (`model_a`), the response itself, or a word
        for a tie.
      responses: the texts.
      names: the columns that they come from, if there are several.
      field: the column of `value`, for errors.

    Raises:
      RowError: it names none of them, or two by different readings.
    """
    count = len(responses)
    word = str(value).strip()
    if value is None or isinstance(value, bool | list | dict) or not word:
        raise RowError(field, f"expected which response is best, got {value!r}")
    found = {i for i, name in enumerate(names) if word in (name, *name.split(".")[:1])}
    found = found or {i for i in (_letter(word),) if i is not None and i < count}
    number = _number(value)
    if number is not None and 0 <= number < count:
        found.add(number)
    texts = [i for i, text in enumerate(responses) if text == value]
    if not found & {*texts}:
        found.update(texts[:1])
    if len(found) == 1:
        (best,) = found
        return [1 if i == best else 2 for i in range(count)]
    if not found and word.lower() in (*TIED, *BAD):
        return [1] * count
    what = "names two responses" if found else "names no response"
    allowed = "a place from 0, a letter, a column, the text of one, or tie"
    raise RowError(field, f"{word[:40]!r} {what}; expected {allowed}")


def _letter(word: str) -> int | None:
    """The place of `b`, `B` or `model_b`."""
    name, _, letter = word.lower().rpartition("_")
    if len(letter) != 1 or not "a" <= letter <= "z" or name not in ("", *SIDES):
        return None
    return ord(letter) - ord("a")


def _number(value: Any) -> int | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if number == number // 1 else None

"""Fields that change what a row means: a reader uses them or refuses the row.

A demonstration with a `weight`, an answer with a system prompt, a comparison with a
winner: read without it, the row would say something else.
"""

import re
from collections.abc import Collection
from typing import Any

from rlhf_jax.data.readers.pairs import SCORES
from rlhf_jax.data.rows import Row, RowError

__all__ = ["MEANING", "refuse_unused", "unused"]

TOLD = {"system", "system_prompt", "history", "messages", "conversations"}
GIVEN = {"tools", "functions", "image", "images", "audio", "video", "videos"}
SAID = {
    "response", "responses", "completion", "completions", "output", "answer",
    "answers", "chosen", "rejected",
}  # fmt: skip
JUDGED = {
    "weight", "sample_weight", "margin", "winner", "preference", "label", "rank",
    "better_response_id", "safer_response_id", "rejected_response",
    "ranks", "score", "scores", "rating", "ratings", "reward", "rewards",
    *(name for both in SCORES for name in both),
}  # fmt: skip
MEANING = TOLD | GIVEN | SAID | JUDGED
# one of several: response_0, answer_b, output2
NUMBERED = re.compile(
    r"(response|answer|output|completion|conversation)_?([0-9]|[a-d])"
)
EMPTY = ("", [], {}, "[]", "{}", "null")  # the last three in a cell


def unused(value: dict[str, Any], uses: Collection[str]) -> str | None:
    """A field that changes what the row means and that nobody uses.

    Running text has none that judges it: a score of a page is not a rank.
    """
    text = "text" in value and "prompt" not in value
    asked = MEANING - JUDGED if text else MEANING
    for key in value:
        changes = key in asked or NUMBERED.fullmatch(str(key))
        if changes and key not in uses and _means(key, value[key]):
            return key
    return None


def refuse_unused(row: Row, uses: Collection[str], format: str) -> None:
    """Refuses a row that would lose its meaning.

    Raises:
      RowError: names the field.
    """
    key = unused(row.value, uses)
    if key is not None:
        raise RowError(
            key,
            f"changes what the row means, and {format!r} has no use for it; name the "
            "columns to read (#map:prompt=..., see docs/formats.md), or leave it out",
        )


def _means(key: str, value: Any) -> bool:
    """Whether a field says anything: nothing, a weight of 1 or a class do not."""
    if value is None or value in EMPTY:
        return False
    if key in ("weight", "sample_weight") and value in (1, "1", "1.0"):
        return False
    number = isinstance(value, int) or str(value).strip().isdigit()
    return key != "label" or isinstance(value, bool) or not number

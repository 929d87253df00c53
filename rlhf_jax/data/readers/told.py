"""What pydantic finds wrong with a record, in our words."""

from typing import Any

from pydantic import ValidationError

from rlhf_jax.data.rows import RowError

__all__ = ["REQUIRED", "told"]

# what is expected of the fields that a record cannot do without
REQUIRED = {
    "id": "a string",
    "prompt": "a string",
    "response": "a string",
    "text": "a string",
    "responses": "a list of strings",
    "ranks": "a list of whole numbers, one per response",
}
SPELLED_OUT = 4  # problems of one row; of more there is only the number


def told(error: ValidationError) -> RowError:
    """What pydantic found, in our words; the row's field is that of the first."""
    found = error.errors(include_url=False, include_input=False)
    first, *others = [_problem(item) for item in found[:SPELLED_OUT]]
    why = "; ".join([first.why, *map(str, others)])
    more = len(found) - SPELLED_OUT
    return RowError(first.field, f"{why}; and {more} more" if more > 0 else why)


def _problem(item: Any) -> RowError:
    """One problem, as pydantic tells it, in our words."""
    where = ".".join(str(part) for part in item["loc"])
    why = item["msg"].removeprefix("Value error, ")
    if item["type"] == "missing":
        why = f"missing, expected {REQUIRED.get(where, 'text')}"
    elif item["type"] == "too_short":
        least, got = item["ctx"]["min_length"], item["ctx"]["actual_length"]
        why = f"expected at least {least}, got {got}"
    elif item["type"] == "extra_forbidden":
        why = "unknown field"
    elif not where and ": " in why:  # our own validators name the field themselves
        where, why = why.split(": ", 1)
    return RowError(where, why.replace("Input should be", "expected"))

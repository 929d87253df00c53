"""Own JSONL: rows that are records already."""

from collections.abc import Iterator

from rlhf_jax.data.records import (
    Demonstration,
    Prompt,
    Ranking,
    Record,
    Text,
    stable_id,
)
from rlhf_jax.data.rows import Row, RowError, as_dict, as_list

KNOWN = {
    key for kind in (Demonstration, Prompt, Ranking, Text) for key in kind.model_fields
}


NAMES = ("id", "user", "group")  # which may be numbers in a file


def own_record(row: Row) -> Iterator[Record]:
    """The record that the row's fields spell: ranking, demonstration, text or prompt.

    Raises:
      RowError: no field tells the kind.
    """
    yield record_of(as_dict(row.value, ""), row.name)


def record_of(value: dict, name: str) -> Record:
    """The record of an object's fields; `name` is the id of one that brings none.

    Rankings of one prompt must not be torn apart by a split. Where they have no id, no
    group and no user, nothing else holds them together, so the prompt is their group.
    """
    kind = kind_of(value)
    value = _with_messages(value, kind)
    numbers = {k: str(value[k]) for k in NAMES if type(value.get(k)) is int}
    value = {**value, **numbers}
    prompt = value.get("prompt")
    loose = {"id", "group", "user"}.isdisjoint(value)
    if kind is Ranking and loose and isinstance(prompt, str):
        value = {**value, "group": f"prompt/{_same(prompt)}"}
    return kind.model_validate({"id": name, **value})


def _with_messages(value: dict, kind: type[Record]) -> dict:
    """The fields, `messages` among them where older files have them in `meta`."""
    meta = value.get("meta")
    if "messages" in value or not isinstance(meta, dict) or "messages" not in meta:
        return value
    rest = {name: item for name, item in meta.items() if name != "messages"}
    turns = as_list(meta["messages"], "meta.messages")
    if kind is Demonstration:
        turns = [*turns, {"role": "assistant", "content": value.get("response")}]
    return {**value, "meta": rest, "messages": turns}


def _same(prompt: str) -> str:
    """A name that prompts share which differ in case or white space at most."""
    return stable_id(" ".join(prompt.lower().split()))


def kind_of(value: dict) -> type[Record]:
    """Which of the four records has these fields."""
    for key, kind in (
        ("responses", Ranking),
        ("ranks", Ranking),
        ("response", Demonstration),
        ("text", Text),
        ("prompt", Prompt),
    ):
        if key in value:
            return kind
    raise RowError(
        "prompt", "missing, expected a string (nor is there a response or text)"
    )

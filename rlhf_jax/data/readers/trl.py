"""TRL's dataset types, plain and conversational.

prompt; prompt + completion; prompt + completion + label; messages; prompt + chosen +
rejected, or chosen + rejected with the prompt inside; text.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from rlhf_jax.data.readers import own, pairs
from rlhf_jax.data.readers.assembled import (
    Before,
    asked,
    before,
    demonstration,
    opening,
    spoken,
    with_system,
)
from rlhf_jax.data.readers.conversations import messages_of
from rlhf_jax.data.readers.pairs import SAID, origin, pair, turns_or_text, waits
from rlhf_jax.data.records import Demonstration, Message, Ranking, Record, Text
from rlhf_jax.data.rows import Row, RowError, as_dict, as_list

PAIRS = "pairs of one ranking"  # the key under which `grouped_rows` joins rows
PLAIN = {"prompt", "text", "source"}  # the fields that our records have too
ANSWERS = {"response", "responses", "ranks"}  # and TRL's types have not
KNOWN = own.KNOWN | {"completion", "label", "ranking", PAIRS} | pairs.USES


def trl_record(row: Row) -> Iterator[Record]:
    """The record of one row, whichever of TRL's types it has.

    A row of ours among them, told by its response or ranks, is read as one.
    """
    value = {k: v for k, v in as_dict(row.value, "").items() if v is not None}
    row = replace(row, value=value)
    if PAIRS in value:
        yield _merged(row)
    elif "chosen" in value or "rejected" in value:
        yield pair(row)
    elif isinstance(value.get("prompt"), str) and ANSWERS & value.keys():
        kept = {key: value[key] for key in value if key in own.KNOWN}
        yield own.record_of(kept, row.name)
    elif isinstance(value.get("prompt"), str) and waits(value):
        yield own.record_of({k: value[k] for k in value if k in own.KNOWN}, row.name)
    elif "messages" in value:
        messages = messages_of(value["messages"], "messages")
        yield spoken(with_system(row, messages), "messages", **origin(row))
    elif "completion" in value:
        yield from _completion(row)
    elif "prompt" in value:
        yield asked(_prompt(row), **origin(row))
    elif "text" in value:
        yield Text(text=row.text("text"), **origin(row))
    else:
        raise RowError(
            "prompt",
            f"missing, expected {SAID} (nor is there any of messages, chosen, text)",
        )


def uses(value: dict[str, Any]) -> set[str]:
    """The fields of a row that change its meaning and that its type uses."""
    value = {key: item for key, item in value.items() if item is not None}
    told = {"system", "system_prompt"}
    if PAIRS in value or "chosen" in value or "rejected" in value:
        return pairs.USES
    if isinstance(value.get("prompt"), str) and (
        ANSWERS & value.keys() or waits(value)
    ):
        return own.KNOWN
    if "messages" in value:
        return told | {"messages"}
    if "completion" in value:
        told |= {"completion", "label"}
    return told | {"history"}


def _prompt(row: Row) -> Before:
    """The prompt, behind the row's system prompt and history."""
    said = before(row.value["prompt"], "prompt")
    if isinstance(said, str):
        return opening(row, said)
    if row.has("history"):
        raise RowError("history", "expected a prompt that is text behind it")
    return with_system(row, said)


def _completion(row: Row) -> Iterator[Demonstration]:
    """prompt + completion; where a `label` says that it is bad, no demonstration."""
    if "prompt" not in row.value:
        raise RowError("prompt", f"missing, expected {SAID}")
    prompt = _prompt(row)
    if not _good(row.value.get("label", True)):
        row.notes.append("labelled bad")
        return
    response = turns_or_text(row.value["completion"], "completion")
    if not isinstance(prompt, str):
        prompt = [_untrained(turn) for turn in prompt]
    if not isinstance(response, str):
        prompt, response = _joined(prompt, response)
    yield demonstration(prompt, response, **origin(row))


def _untrained(turn: Message) -> Message:
    """A turn of a prompt; one of the assistant's is given, not trained."""
    if turn.role != "assistant" or turn.weight is not None:
        return turn
    return turn.model_copy(update={"weight": 0.0})


def _joined(prompt: Before, turns: list[Message]) -> tuple[Before, Message]:
    """All before the last turn, and that."""
    if turns[0].role != "assistant":
        raise RowError("completion", "expected text or turns of the assistant")
    if len(turns) > 1 and isinstance(prompt, str):
        prompt = [Message(role="user", content=prompt)]
    if isinstance(prompt, str):
        return prompt, turns[-1]
    return [*prompt, *turns[:-1]], turns[-1]


def _good(label: Any) -> bool:
    """Whether a completion is labelled good; a table has the label as text."""
    words = {"true": True, "1": True, "false": False, "0": False}
    good = words.get(label.lower(), label) if isinstance(label, str) else label
    if not isinstance(good, bool):
        raise RowError("label", f"expected true or false, got {label!r}")
    return good


def grouped_rows(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows as they are, but the pairs of one K-wise ranking together as one row.

    Such pairs were written by `writers.trl_pairs`: they stand next to each other, have
    the ranking's id and a "ranking" column.
    """
    group: list[Row] = []
    for row in rows:
        joins = isinstance(row.value, dict) and isinstance(
            row.value.get("ranking"), dict
        )
        if group and not (joins and row.value.get("id") == group[0].value.get("id")):
            yield _together(group)
            group = []
        if joins:
            group.append(row)
        else:
            yield row
    if group:
        yield _together(group)


def _together(group: list[Row]) -> Row:
    raw = b"\n".join(row.raw for row in group)
    pairs = [row.value for row in group]
    return Row(group[0].file, group[0].line, {PAIRS: pairs}, raw)


def _merged(row: Row) -> Ranking:
    """The K-wise ranking of a group of pairs.

    Raises:
      RowError: pairs are missing, or are at odds.
    """
    parts = [Row(row.file, row.line, value) for value in row.value[PAIRS]]
    places: dict[int, tuple[str, int]] = {}
    for part in parts:
        group, found = _checked_group(part.value["ranking"]), pair(part)
        for place, rank, text in zip(
            group["places"], group["ranks"], found.responses, strict=True
        ):
            if places.setdefault(place, (text, rank)) != (text, rank):
                raise RowError("ranking", f"two pairs differ in response {place}")
    k = group["k"]
    if sorted(places) != list(range(k)):
        raise RowError("ranking", f"expected pairs of K = {k} responses, some missing")
    fields = {
        **group["rest"],
        "id": parts[0].text("id"),
        "prompt": found.prompt,
        "responses": [places[i][0] for i in range(k)],
        "ranks": [places[i][1] for i in range(k)],
    }
    if found.messages is not None:
        fields["messages"] = found.messages
    return Ranking.model_validate(fields)


def _checked_group(value: Any) -> dict[str, Any]:
    group = as_dict(value, "ranking")
    for key in ("places", "ranks"):
        numbers = as_list(group.get(key), f"ranking.{key}")
        if len(numbers) != 2 or not all(type(n) is int and n >= 0 for n in numbers):
            raise RowError(f"ranking.{key}", "expected two whole numbers")
    if type(group.get("k")) is not int or not group["k"] > max(group["places"]):
        raise RowError("ranking.k", "expected how many responses there are")
    return {**group, "rest": as_dict(group.get("rest", {}), "ranking.rest")}

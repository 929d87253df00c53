"""TRL's dataset types, plain and conversational.

prompt; prompt + completion; prompt + completion + label; messages; prompt + chosen +
rejected, or chosen + rejected with the prompt inside; text.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from rlhf_jax.data.readers import own
from rlhf_jax.data.readers.dialogues import messages_of, transcript
from rlhf_jax.data.records import Demonstration, Prompt, Ranking, Record, Text
from rlhf_jax.data.rows import Row, RowError, as_dict, as_list

PAIRS = "pairs of one ranking"  # the key under which `grouped_rows` joins rows
PLAIN = {"prompt", "text", "source"}  # the fields that our records have too
ANSWERS = {"response", "responses", "ranks"}  # and TRL's types have not
KNOWN = PLAIN | ANSWERS | {"id", "subset", "completion", "label", "messages"}
KNOWN |= {"chosen", "rejected", "ranking"}
SAID = "text or a list of messages"


def trl_record(row: Row) -> Iterator[Record]:
    """The record of one row, whichever of TRL's types it has.

    A row of ours among them, told by its response or ranks, is read as one.
    """
    value = as_dict(row.value, "")
    if PAIRS in value:
        yield _merged(row)
    elif "chosen" in value or "rejected" in value:
        yield _pair(row)
    elif "messages" in value:
        yield _spoken(row, messages_of(value["messages"], "messages"))
    elif "completion" in value:
        yield from _completion(row)
    elif isinstance(value.get("prompt"), str) and ANSWERS & value.keys():
        kept = {key: value[key] for key in value if key in own.KNOWN}
        yield own.record_of(kept, row.name)
    elif "prompt" in value:
        prompt, meta = _prompt(value["prompt"])
        yield Prompt(prompt=prompt, meta=meta, **_origin(row))
    elif "text" in value:
        yield Text(text=row.text("text"), **_origin(row))
    else:
        raise RowError(
            "prompt",
            f"missing, expected {SAID} (nor is there any of messages, chosen, text)",
        )


def _origin(row: Row) -> dict[str, Any]:
    return {
        "id": row.optional_text("id") or row.name,
        "use_case": row.optional_text("subset"),
        "source": row.optional_text("source"),
    }


def _prompt(value: Any) -> tuple[str, dict[str, Any]]:
    """The prompt as text, and the messages where it was a conversation."""
    if isinstance(value, str):
        return value, {}
    _spoken_or_refused(value, "prompt")
    messages = messages_of(value, "prompt")
    if not messages:
        raise RowError("prompt", "expected at least one message")
    return transcript(messages), {"messages": messages}


def _spoken_or_refused(value: Any, field: str) -> None:
    if not isinstance(value, list):
        got = type(value).__name__
        raise RowError(field, f"expected {SAID}, got {got}")


def _answer(value: Any, field: str) -> str:
    """A completion: text, or the assistant's messages."""
    if isinstance(value, str):
        return value
    _spoken_or_refused(value, field)
    messages = messages_of(value, field)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise RowError(field, "expected text or one message of the assistant")
    return messages[0]["content"]


def _spoken(row: Row, messages: list[dict[str, str]]) -> Record:
    """A conversation that ends with the assistant is a demonstration, else a prompt."""
    if not messages:
        raise RowError("messages", "expected at least one message")
    if messages[-1]["role"] != "assistant":
        meta = {"messages": messages}
        return Prompt(prompt=transcript(messages), meta=meta, **_origin(row))
    before = messages[:-1]
    if not before:
        raise RowError("messages", "expected a message before the assistant's")
    return Demonstration(
        prompt=transcript(before),
        response=messages[-1]["content"],
        meta={"messages": before},
        **_origin(row),
    )


def _completion(row: Row) -> Iterator[Demonstration]:
    """prompt + completion; where a `label` says that it is bad, no demonstration."""
    if "prompt" not in row.value:
        raise RowError("prompt", f"missing, expected {SAID}")
    prompt, meta = _prompt(row.value["prompt"])
    label = row.value.get("label", True)
    if not isinstance(label, bool):
        raise RowError("label", f"expected true or false, got {label!r}")
    if label:
        response = _answer(row.value["completion"], "completion")
        yield Demonstration(prompt=prompt, response=response, meta=meta, **_origin(row))


def _pair(row: Row) -> Ranking:
    for key in ("chosen", "rejected"):
        if key not in row.value:
            raise RowError(key, f"missing, expected {SAID}")
    chosen, rejected = row.value["chosen"], row.value["rejected"]
    if "prompt" in row.value:
        prompt, meta = _prompt(row.value["prompt"])
        responses = [_answer(chosen, "chosen"), _answer(rejected, "rejected")]
    else:
        prompt, meta, responses = _implicit(chosen, rejected)
    return Ranking(
        prompt=prompt, responses=responses, ranks=[1, 2], meta=meta, **_origin(row)
    )


def _implicit(chosen: Any, rejected: Any) -> tuple[str, dict[str, Any], list[str]]:
    """Two conversations that differ in the last message."""
    both = [messages_of(chosen, "chosen"), messages_of(rejected, "rejected")]
    before = both[0][:-1]
    if not before or both[1][:-1] != before:
        raise RowError("rejected", "expected the messages of chosen but for the last")
    for name, messages in zip(("chosen", "rejected"), both, strict=True):
        if messages[-1]["role"] != "assistant":
            raise RowError(name, "expected the assistant to speak last")
    responses = [messages[-1]["content"] for messages in both]
    return transcript(before), {"messages": before}, responses


def _checked_group(value: Any) -> dict[str, Any]:
    group = as_dict(value, "ranking")
    for key in ("places", "ranks"):
        numbers = as_list(group.get(key), f"ranking.{key}")
        if len(numbers) != 2 or not all(type(n) is int and n >= 0 for n in numbers):
            raise RowError(f"ranking.{key}", "expected two whole numbers")
    if type(group.get("k")) is not int or not group["k"] > max(group["places"]):
        raise RowError("ranking.k", "expected how many responses there are")
    as_dict(group.get("rest"), "ranking.rest")
    return group


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
        group, pair = _checked_group(part.value["ranking"]), _pair(part)
        for place, rank, text in zip(
            group["places"], group["ranks"], pair.responses, strict=True
        ):
            if places.setdefault(place, (text, rank)) != (text, rank):
                raise RowError("ranking", f"two pairs differ in response {place}")
    k = group["k"]
    if sorted(places) != list(range(k)):
        raise RowError("ranking", f"expected pairs of K = {k} responses, some missing")
    found = {
        **group["rest"],
        "id": parts[0].text("id"),
        "prompt": pair.prompt,
        "responses": [places[i][0] for i in range(k)],
        "ranks": [places[i][1] for i in range(k)],
    }
    if pair.meta:
        found["meta"] = {**pair.meta, **group["rest"].get("meta", {})}
    return Ranking.model_validate(found)


def _checked_group(value: Any) -> dict[str, Any]:
    group = as_dict(value, "ranking")
    for key in ("places", "ranks"):
        numbers = as_list(group.get(key), f"ranking.{key}")
        if len(numbers) != 2 or not all(type(n) is int and n >= 0 for n in numbers):
            raise RowError(f"ranking.{key}", "expected two whole numbers")
    if type(group.get("k")) is not int or not group["k"] > max(group["places"]):
        raise RowError("ranking.k", "expected how many responses there are")
    rest = as_dict(group.get("rest", {}), "ranking.rest")
    as_dict(rest.get("meta", {}), "ranking.rest.meta")
    return {**group, "rest": rest}

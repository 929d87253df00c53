"""Records -> files: own JSONL, TRL's types, CSV. A file appears whole or not at all."""

import csv
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from rlhf_jax.data.records import (
    Demonstration,
    Message,
    Prompt,
    Ranking,
    Record,
    Text,
)
from rlhf_jax.storage import replacing, write_lines

__all__ = [
    "WRITERS",
    "trl_pairs",
    "trl_row",
    "write_csv",
    "write_jsonl",
    "write_trl",
]

# Characters by which a spreadsheet recognises a formula or a command (OWASP, "CSV
# injection"), their full-width twins, and the quote that we put before them.
FORMULA = tuple("=+-@\t\r\n'＝＋－＠")


def write_jsonl(path: str | pathlib.Path, records: Iterable[Record]) -> int:
    """Own JSONL: fields that have their default are left out; returns the rows."""
    return write_lines(path, map(as_json, records))


def as_json(record: Record) -> dict[str, Any]:
    """A record as the object that own JSONL holds; `id` and content always there."""
    return record.model_dump(mode="json", exclude_defaults=True)


def write_trl(
    path: str | pathlib.Path, records: Iterable[Record], *, conversational: bool = False
) -> int:
    """TRL's dataset types, as JSONL; returns the rows.

    A `Prompt` becomes prompt-only, a `Demonstration` prompt-completion, or messages
    where it is a conversation and conversational; a `Text` language modelling, a
    `Ranking` one preference row per untied pair.
    """
    rows = (
        row
        for record in records
        for row in (
            trl_pairs(record, conversational=conversational)
            if isinstance(record, Ranking)
            else [trl_row(record, conversational=conversational)]
        )
    )
    return write_lines(path, rows)


def trl_row(
    record: Prompt | Demonstration | Text, *, conversational: bool = False
) -> dict[str, Any]:
    """A record that is no ranking as one row of TRL's."""
    if isinstance(record, Text):
        row: dict[str, Any] = {"text": record.text}
    elif conversational and isinstance(record, Demonstration) and record.messages:
        row = {"messages": turns(record.messages)}
    else:
        row = {"prompt": _prompt(record, conversational)}
        if isinstance(record, Demonstration):
            row["completion"] = _answer(record.response, conversational)
    return {**row, "id": record.id}


def trl_pairs(
    record: Ranking, *, conversational: bool = False
) -> Iterator[dict[str, Any]]:
    """A K-wise ranking as TRL preference rows, one per pair that is not tied.

    Every row keeps the ranking's id and, under "ranking", the place and rank of both
    responses and the record's other fields, so that the reader puts the K responses
    together again. A ranking whose responses are all tied has no pairs.

    >>> row = Ranking(id="1", prompt="Hi", responses=["a", "b", "c"], ranks=[2, 1, 2])
    >>> [(p["chosen"], p["rejected"]) for p in trl_pairs(row)]
    [('b', 'a'), ('b', 'c')]
    """
    content = {"id", "prompt", "responses", "ranks"}
    content |= {"messages"} if conversational else set()
    rest = {k: v for k, v in as_json(record).items() if k not in content}
    for winner, loser in record.pairs:
        yield {
            "prompt": _prompt(record, conversational),
            "chosen": _answer(record.responses[winner], conversational),
            "rejected": _answer(record.responses[loser], conversational),
            "id": record.id,
            "ranking": {
                "k": len(record.responses),
                "places": [winner, loser],
                "ranks": [record.ranks[winner], record.ranks[loser]],
                "rest": rest,
            },
        }


def _prompt(record: Record, conversational: bool) -> Any:
    if not conversational:
        return record.prompt
    if record.messages is None:
        return [{"role": "user", "content": record.prompt}]
    return turns(record.messages)


def turns(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Messages as TRL writes them."""
    return [message.model_dump(mode="json", exclude_none=True) for message in messages]


def _answer(text: str, conversational: bool) -> Any:
    return [{"role": "assistant", "content": text}] if conversational else text


def write_csv(path: str | pathlib.Path, records: Iterable[Record]) -> int:
    """A table for spreadsheets: one row per record; returns the rows.

    Lists are spread over numbered columns (`responses_1`, `ranks_1`, ...), `meta` and
    flags are JSON. A cell that a spreadsheet would run as a formula gets a quote (')
    before it, which `read` takes off again.
    """
    rows = [_flat(as_json(record)) for record in records]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with replacing(path) as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\r\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: safe_cell(value) for key, value in row.items()})
    return len(rows)


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict) or key == "messages":
            flat[key] = json.dumps(item, ensure_ascii=False)
        elif isinstance(item, list):
            for place, part in enumerate(item, 1):
                as_text = isinstance(part, dict)
                flat[f"{key}_{place}"] = json.dumps(part) if as_text else part
        else:
            flat[key] = item
    return flat


def safe_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula.

    >>> safe_cell("=1+1"), safe_cell("-5"), safe_cell(-5), safe_cell("a")
    ("'=1+1", "'-5", -5, 'a')
    """
    return (
        f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
    )


WRITERS = {"jsonl": write_jsonl, "trl": write_trl, "csv": write_csv}

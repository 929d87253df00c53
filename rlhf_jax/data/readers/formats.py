"""The table of formats, and the one function that reads a file of any of them."""

import pathlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from rlhf_jax.data.json_arrays import json_file_rows
from rlhf_jax.data.readers import (
    comparisons,
    dialogues,
    documents,
    hub,
    instructions,
    own,
    tables,
    trees,
    trl,
)
from rlhf_jax.data.records import MAX_K, Ranking, Record
from rlhf_jax.data.rows import Intake, Row, RowError, as_dict
from rlhf_jax.errors import InputError

__all__ = ["FORMATS", "Format", "detect_format", "read"]

RowReader = Callable[[Any, Intake], Iterator[Row]]


@dataclass(frozen=True)
class Format:
    """How files of one kind become records.

    Args:
      rows: file -> rows.
      convert: one row -> its records, none, one or many.
      group: puts rows together that make one record.
      keys: the fields by which a JSON row of this format is known.
      objects: every row must be an object.
      uses: whether a field is used; others are left out and told as warnings. None:
        `convert` takes the row as it is.
    """

    rows: RowReader
    convert: Callable[[Row], Iterable[Record]]
    group: Callable[[Iterable[Row]], Iterator[Row]] = iter
    keys: frozenset[str] = frozenset()
    objects: bool = False
    uses: Callable[[str], bool] | None = None


def _json(convert, *keys: str, group=iter) -> Format:
    return Format(json_file_rows, convert, group, frozenset(keys), objects=True)


# A file is taken for the first format whose keys its first row has.
FORMATS: dict[str, Format] = {
    "jsonl": Format(json_file_rows, own.own_record, uses=own.KNOWN.__contains__),
    "oasst": _json(trees.tree_rankings, "message_tree_id", "prompt"),
    "oasst-demonstrations": _json(trees.tree_demonstrations),
    "oasst-prompts": _json(trees.tree_prompts),
    "squality": _json(instructions.squality, "document", "questions"),
    "pplm": _json(comparisons.pplm, "text_a", "text_b", "annotators"),
    "self-instruct": _json(instructions.self_instruct, "instruction", "instances"),
    "alpaca": _json(instructions.alpaca, "instruction", "output"),
    "gsm8k": _json(instructions.gsm8k, "question", "answer"),
    "dolly": _json(instructions.dolly, "instruction", "response"),
    "argilla": _json(comparisons.argilla, "fields"),
    "hh": _json(dialogues.hh_rankings),
    "trl": _json(trl.trl_record, group=trl.grouped_rows),
    "strings": Format(json_file_rows, documents.prompt_string),
    "text": Format(documents.file_rows, documents.document),
    "lines": Format(documents.line_rows, documents.document),
    "gutenberg": Format(documents.file_rows, documents.book),
    "wikitext": Format(documents.article_rows, documents.document),
    "csv": Format(tables.csv_rows, tables.table_record, uses=tables.is_known),
    "csv-trl": Format(tables.csv_rows, trl.trl_record, uses=trl.KNOWN.__contains__),
    "tsv": Format(tables.tsv_rows, tables.table_record, uses=tables.is_known),
    "tsv-trl": Format(tables.tsv_rows, trl.trl_record, uses=trl.KNOWN.__contains__),
    "labelled": Format(
        tables.tsv_rows, comparisons.labelled, comparisons.labelled_groups
    ),
    "labelled-csv": Format(
        tables.csv_rows, comparisons.labelled, comparisons.labelled_groups
    ),
}


def read(
    path: str | pathlib.Path,
    format: str = "auto",
    *,
    intake: Intake | None = None,
    max_k: int = MAX_K,
) -> Iterator[Record]:
    """The records of a file, one by one, in bounded memory.

    Args:
      path: a file, plain or gzip, or "hf:owner/dataset[:config][:split]".
      format: a key of `FORMATS`; "auto" asks `detect_format`.
      intake: what becomes of bad rows, and the counts; refuses them when None.
      max_k: rankings of more responses are refused.

    Raises:
      InputError: bad rows under "error", each as `file:line: field: why`; a file that
        is missing, damaged or empty.
    """
    intake = Intake() if intake is None else intake
    chosen = _format(path, format)
    before = intake.rows
    rows = chosen.rows(path, intake)
    if chosen.uses is not None:
        rows = _used_fields(rows, chosen.uses, intake)
    for row in chosen.group(rows):
        try:
            if chosen.objects:
                as_dict(row.value, "")
            made = [_checked(record, max_k) for record in chosen.convert(row)]
        except RowError as error:
            intake.reject(row, error)
        except ValidationError as error:
            intake.reject(row, told(error))
        else:
            for record in made:
                _remark(record, row, intake)
            intake.records += len(made)
            yield from made
    if intake.rows == before:
        raise InputError(f"{path}:1: expected at least one row, the file has none")
    intake.settle()


def _format(path: str | pathlib.Path, format: str) -> Format:
    remote = str(path).startswith(hub.PREFIX)
    if format == "auto":
        format = detect_format(path)
    if format not in FORMATS:
        raise InputError(
            f"format: expected one of {', '.join(FORMATS)}, got {format!r}"
        )
    chosen = FORMATS[format]
    return replace(chosen, rows=hub.hub_rows) if remote else chosen


def _used_fields(
    rows: Iterable[Row], uses: Callable[[str], bool], intake: Intake
) -> Iterator[Row]:
    """Rows without the fields that are not used; those are warnings."""
    for row in rows:
        if isinstance(row.value, dict):
            for key in sorted(key for key in row.value if not uses(key)):
                intake.warn(f"unknown field {key!r}", row.file, row.line)
                del row.value[key]
        yield row


def _checked(record: Record, max_k: int) -> Record:
    if isinstance(record, Ranking) and len(record.responses) > max_k:
        raise RowError(
            "responses",
            f"expected at most {max_k}, got K = {len(record.responses)} (--max-k)",
        )
    return record


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
        why = f"missing, expected {REQUIRED[where]}"
    elif item["type"] == "too_short":
        least, got = item["ctx"]["min_length"], item["ctx"]["actual_length"]
        why = f"expected at least {least}, got {got}"
    elif item["type"] == "extra_forbidden":
        why = "unknown field"
    elif not where and ": " in why:  # our own validators name the field themselves
        where, why = why.split(": ", 1)
    return RowError(where, why.replace("Input should be", "expected"))


def _remark(record: Record, row: Row, intake: Intake) -> None:
    """Books what is odd about a ranking but allowed."""
    if not isinstance(record, Ranking):
        return
    by_text: dict[str, set[int]] = {}
    for text, rank in zip(record.responses, record.ranks, strict=True):
        by_text.setdefault(text, set()).add(rank)
    if any(len(ranks) > 1 for ranks in by_text.values()):
        intake.warn("same response, different ranks", row.file, row.line)
    if any(not text.strip() for text in record.responses):
        intake.warn("empty response", row.file, row.line)
    if not record.pairs:
        intake.warn("all responses tied", row.file, row.line)


def detect_format(path: str | pathlib.Path) -> str:
    """The format of a file, from its name and its first row.

    Raises:
      InputError: an unknown kind of file.
    """
    suffixes = [s for s in pathlib.PurePath(str(path)).suffixes if s != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if str(path).startswith(hub.PREFIX):
        first = next(hub.hub_rows(str(path), Intake()), None)
        return _of_row({} if first is None else first.value)
    if suffix in (".csv", ".tsv"):
        rows = tables.csv_rows if suffix == ".csv" else tables.tsv_rows
        return _of_table(next(rows(path, Intake("skip")), None), suffix[1:])
    if suffix in (".jsonl", ".json", ".ndjson"):
        first = next(json_file_rows(path, Intake("skip")), None)
        return "jsonl" if first is None else _of_row(first.value)
    if suffix in (".txt", ".md", ""):
        return "text"
    raise InputError(
        f"{path}: expected .jsonl, .csv, .tsv or .txt, or --format; got {suffix!r}"
    )


def _of_row(value: Any) -> str:
    if isinstance(value, str):
        return "strings"
    if not isinstance(value, dict):
        return "jsonl"
    for name, known in FORMATS.items():
        if known.keys and known.keys <= value.keys():
            return name
    if {"prompt", "answer"} <= value.keys():
        return "dolly"
    if "chosen" in value and "prompt" not in value:
        transcripts = isinstance(value["chosen"], str)
        return "hh" if transcripts else "trl"
    if {"chosen", "completion", "messages"} & value.keys():
        return "trl"
    if "id" not in value and ({"prompt"} == value.keys() or "text" in value):
        return "trl"
    return "jsonl"


def _of_table(first: Row | None, kind: str) -> str:
    columns = set() if first is None else set(first.value)
    if {"sentence", "label"} <= columns:
        return "labelled" if kind == "tsv" else "labelled-csv"
    if {"chosen", "rejected", "completion", "messages"} & columns:
        return f"{kind}-trl"
    ours = {name for name in columns if tables.is_known(name)} - trl.PLAIN
    return kind if "id" in columns or ("prompt" in columns and ours) else f"{kind}-trl"

"""The table of formats, and the one function that reads a file of any of them."""

import difflib
import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from rlhf_jax.data.json_arrays import json_file_rows
from rlhf_jax.data.readers import (
    arena,
    comparisons,
    dialogues,
    documents,
    hub,
    instructions,
    own,
    pairs,
    preferences,
    tables,
    trees,
    trl,
)
from rlhf_jax.data.readers.columns import MAP, parsed_map
from rlhf_jax.data.readers.containers import any_rows, ending
from rlhf_jax.data.readers.meaning import refuse_unused
from rlhf_jax.data.readers.told import told
from rlhf_jax.data.records import Ranking, Record
from rlhf_jax.data.rows import Intake, Row, RowError, as_dict
from rlhf_jax.errors import InputError

__all__ = ["FORMATS", "Format", "detect_format", "format_of", "named", "read"]

RowReader = Callable[[Any, Intake], Iterator[Row]]
LOOKED_AT = 100  # rows among which a column must be for the file to have it


@dataclass(frozen=True)
class Format:
    """How files of one kind become records.

    Args:
      convert: one row -> its records, none, one or many.
      keys: sets of fields, by one of which, whole, a row of this format is known; a
        file that lacks them all is refused at once.
      uses: fields that `convert` uses, of those that change what a row means; None:
        `drops` tells, or all that is used was named.
      drops: whether a field is unknown; such fields are left out and told as warnings.
      group: puts rows together that make one record.
      rows: file -> rows.
      missing: what is wrong where no row has a column that is needed; `keys` tell
        where None.
    """

    convert: Callable[[Row], Iterable[Record]]
    keys: tuple[frozenset[str], ...] = ()
    uses: frozenset[str] | None = None
    drops: Callable[[str], bool] | None = None
    group: Callable[[Iterable[Row]], Iterator[Row]] = iter
    rows: RowReader = any_rows
    missing: Callable[[list[Row]], str | None] | None = None

    def lacks(self, name: str, rows: list[Row]) -> str | None:
        """What is wrong where none of these rows has the columns that are needed."""
        if self.missing is not None:
            return self.missing(rows)
        columns = {key for row in rows for key in row.value}
        if any(keys <= columns for keys in self.keys):
            return None
        wanted = " or ".join(", ".join(sorted(keys)) for keys in self.keys)
        return (
            f"format {name!r}: expected the columns {wanted}; "
            f"there are {', '.join(sorted(columns)) or 'none'}"
        )

    def sift(self, name: str, row: Row, intake: Intake) -> None:
        """Refuses fields that must not be ignored; takes unknown ones out, and warns.

        Raises:
          RowError: a field changes what the row means, and would be ignored.
        """
        if self.uses is not None:
            refuse_unused(row, self.uses, name)
        elif self.drops is not None:
            unknown = sorted(key for key in row.value if self.drops(key))
            refuse_unused(row, row.value.keys() - unknown, name)
            for key in unknown:
                intake.warn(f"unknown field {key!r}", row.file, row.line)
                del row.value[key]


def _known(convert, *keys: str, uses: Iterable[str] = (), group=iter) -> Format:
    """A format of objects; `keys` are words, each the fields of one alternative."""
    wanted = tuple(frozenset(words.split()) for words in keys)
    return Format(convert, wanted, frozenset(uses).union(*wanted), group=group)


def _own(rows: RowReader, convert, known: Callable[[str], bool]) -> Format:
    keys = tuple(
        frozenset({key}) for key in ("prompt", "text", "response", "responses")
    )
    return Format(convert, keys, None, lambda key: not known(key), rows=rows)


OPENING = ("system", "system_prompt", "history")
PAIR = tuple(f"{asked} chosen rejected" for asked in pairs.ASKED)
FLAT = "message_id parent_id text role"

# A file is taken for the first format that has all the keys of one alternative.
FORMATS: dict[str, Format] = {
    "jsonl": _own(any_rows, own.own_record, own.KNOWN.__contains__),
    "csv": _own(tables.csv_rows, tables.table_record, tables.is_known),
    "tsv": _own(tables.tsv_rows, tables.table_record, tables.is_known),
    "oasst": _known(trees.tree_rankings, "message_tree_id prompt"),
    "oasst-demonstrations": _known(trees.tree_demonstrations, "message_tree_id prompt"),
    "oasst-prompts": _known(trees.tree_prompts, "message_tree_id prompt"),
    "oasst-flat": _known(
        trees.tree_rankings, FLAT, uses=["rank"], group=trees.tree_rows
    ),
    "oasst-flat-demonstrations": _known(
        trees.tree_demonstrations, FLAT, uses=["rank"], group=trees.tree_rows
    ),
    "oasst-flat-prompts": _known(
        trees.tree_prompts, FLAT, uses=["rank"], group=trees.tree_rows
    ),
    "ultrafeedback": _known(
        preferences.ultrafeedback, "instruction completions", uses=OPENING
    ),
    "nectar": _known(preferences.nectar, "prompt answers"),
    "helpsteer-preference": _known(
        preferences.helpsteer_preference,
        "prompt response_1 response_2 preference_strength",
        "context response1 response2 overall_preference",
    ),
    "helpsteer": _known(
        preferences.helpsteer,
        "prompt response helpfulness",
        group=preferences.rated_rows,
    ),
    "shp": _known(preferences.shp, "history human_ref_A human_ref_B labels"),
    "arena": _known(
        arena.arena,
        *(f"{names[0]} {names[1]} winner" for names in arena.SIDES),
        *(f"{names[0]} {names[1]} winner_model_a" for names in arena.SIDES),
        uses=arena.USES,
    ),
    "squality": _known(instructions.squality, "document questions"),
    "pplm": _known(comparisons.pplm, "text_a text_b annotators"),
    "self-instruct": _known(instructions.self_instruct, "instruction instances"),
    "trl": Format(
        trl.trl_record,
        tuple(
            frozenset(words.split())
            for words in (*PAIR, "prompt completion", "messages", "chosen rejected")
        )
        + tuple(frozenset({key}) for key in ("prompt", "text", "chosen", "rejected")),
        drops=lambda key: key not in trl.KNOWN,
        group=trl.grouped_rows,
    ),
    "sharegpt": _known(dialogues.sharegpt, "conversations", uses=["system"]),
    "alpaca": _known(instructions.alpaca, "instruction output", uses=OPENING),
    "gsm8k": _known(instructions.gsm8k, "question answer"),
    "dolly": _known(
        instructions.dolly, "instruction response", "prompt answer", uses=OPENING
    ),
    "argilla": _known(
        comparisons.argilla,
        "fields",
        "instruction ranking",
        uses=["ranking", "ranking-responses", "prompt"],
    ),
    "hh": _known(dialogues.hh_rankings, "chosen rejected"),
    "labelled": _known(
        comparisons.labelled, "sentence label", group=comparisons.labelled_groups
    ),
    "strings": Format(documents.prompt_string, rows=json_file_rows),
    "text": Format(documents.document, rows=documents.file_rows),
    "lines": Format(documents.document, rows=documents.line_rows),
    "gutenberg": Format(documents.book, rows=documents.file_rows),
    "wikitext": Format(documents.document, rows=documents.article_rows),
}


def read(
    path: str | pathlib.Path,
    format: str = "auto",
    *,
    intake: Intake | None = None,
    max_k: int | None = None,
) -> Iterator[Record]:
    """The records of a file, one by one, in bounded memory.

    Args:
      path: a file, plain, gzip or Zstandard, or "hf:owner/dataset[:config][:split]";
        with a format behind a #, as in `trees.jsonl.gz#oasst-demonstrations` or
        `a.csv#map:prompt=question,response=answer`.
      format: a key of `FORMATS`, or a column map; "auto" asks the path, and then
        `detect_format`.
      intake: what becomes of bad rows, and the counts; refuses them when None.
      max_k: rankings of more responses are refused; no limit when None.

    Raises:
      InputError: bad rows under "error", each as `file:line: field: why`; a file that
        is missing, damaged, empty, or has none of the columns that are needed.
    """
    intake = Intake() if intake is None else intake
    path, name, chosen = format_of(path, format)
    before = intake.rows
    rows = chosen.rows(path, intake)
    if chosen.keys:
        rows = _with_columns(rows, path, name, chosen, intake)
    for row in chosen.group(rows):
        try:
            if chosen.keys:
                as_dict(row.value, "")
            made = [_checked(record, max_k) for record in chosen.convert(row)]
        except RowError as error:
            intake.reject(row, error)
        except ValidationError as error:
            intake.reject(row, told(error))
        else:
            intake.noted(row, len(made))
            for record in made:
                _remark(record, row, intake)
            intake.records += len(made)
            yield from made
    if intake.rows == before:
        raise InputError(f"{path}:1: expected at least one row, the file has none")
    intake.settle()


def named(path: str | pathlib.Path) -> tuple[str, str]:
    """A path without the format behind its #, and that; "auto" where there is none.

    >>> named("rows.csv#map:prompt=question")
    ('rows.csv', 'map:prompt=question')
    """
    text = str(path)
    parts = text.split("#")
    for count in range(len(parts), 0, -1):
        file = "#".join(parts[:count])
        if count == 1 or pathlib.Path(file).is_file():
            return file, "#".join(parts[count:]) or "auto"
    return text, "auto"


def format_of(path: str | pathlib.Path, format: str) -> tuple[str, str, Format]:
    """(path without its format, name of the format, format).

    Raises:
      InputError: no such format, or a column map that is none.
    """
    file, behind = named(path)
    name = behind if format == "auto" else format
    if name == "auto":
        name = detect_format(file)
    if name.startswith(MAP):
        columns = parsed_map(name.removeprefix(MAP))
        made = Format(columns.convert, missing=columns.missing)
        return file, name, replace(made, keys=(frozenset(),))
    if name not in FORMATS:
        near = difflib.get_close_matches(name, FORMATS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(
            f"format: expected one of {', '.join(FORMATS)}, or a column map "
            f"(map:prompt=...), got {name!r}{hint}"
        )
    chosen = FORMATS[name]
    if file.startswith(hub.PREFIX):
        chosen = replace(chosen, rows=any_rows)
    return file, name, chosen


def _with_columns(
    rows: Iterator[Row], path: str, name: str, chosen: Format, intake: Intake
) -> Iterator[Row]:
    """Rows whose fields the format can use; a file without its columns is refused.

    Raises:
      InputError: once, before the first row.
    """
    head = list(itertools.islice(rows, LOOKED_AT))
    objects = [row for row in head if isinstance(row.value, dict)]
    if objects and len(objects) == len(head):
        why = chosen.lacks(name, objects)
        if why:
            raise InputError(f"{path}: {why}")
    for row in itertools.chain(head, rows):
        if not isinstance(row.value, dict):
            yield row  # refused where it is read
            continue
        try:
            chosen.sift(name, row, intake)
        except RowError as error:
            intake.reject(row, error)
        else:
            yield row


def _checked(record: Record, max_k: int | None) -> Record:
    k = len(record.responses) if isinstance(record, Ranking) else 0
    if max_k is not None and k > max_k:
        raise RowError("responses", f"expected at most {max_k}, got K = {k} (max_k)")
    return record


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
    if len(set(record.ranks)) == 1:
        intake.warn("all responses tied", row.file, row.line)


def detect_format(path: str | pathlib.Path) -> str:
    """The format of a file, from its name and its first row.

    Raises:
      InputError: an unknown kind of file, or columns that no format has.
    """
    kind = "" if str(path).startswith(hub.PREFIX) else ending(path)
    if kind in (".txt", ".md") or (not kind and not str(path).startswith(hub.PREFIX)):
        return "text"
    if kind not in ("", ".csv", ".tsv", ".jsonl", ".json", ".ndjson", ".parquet"):
        raise InputError(
            f"{path}: expected .jsonl, .json, .csv, .tsv, .parquet or .txt, or a "
            f"format behind a #; got {kind!r}"
        )
    first = next(any_rows(path, Intake("skip")), None)
    if first is None:
        return "jsonl"
    own_name = kind[1:] if kind in (".csv", ".tsv") else "jsonl"
    found = _of_row(first.value, own_name)
    if found is None:
        columns = ", ".join(map(str, first.value)) or "none"
        raise InputError(
            f"{path}: no known format has these columns: {columns}; name the ones to "
            "read, as in FILE#map:prompt=question,response=answer (docs/formats.md)"
        )
    return found


def _of_row(value: Any, own_name: str) -> str | None:
    if isinstance(value, str):
        return "strings"
    if not isinstance(value, dict):
        return "jsonl"
    columns = value.keys()
    ours = {key for key in columns if tables.is_known(key)} - trl.PLAIN
    if "prompt" in columns and {"responses", "responses_1", "ranks"} & columns:
        return own_name
    for name, known in FORMATS.items():
        if name not in GENERAL and any(keys <= columns for keys in known.keys):
            if name != "gsm8k" or "####" in str(value["answer"]):
                return name
    return _of_general(value, ours, own_name)


GENERAL = ("jsonl", "csv", "tsv", "trl", "hh")


def _of_general(value: dict[str, Any], ours: set[str], own_name: str) -> str | None:
    """Our own format, TRL's types or HH-RLHF, which share columns."""
    if {"chosen", "rejected"} & value.keys():
        alone = not set(pairs.ASKED) & value.keys()
        return "hh" if alone and isinstance(value.get("chosen"), str) else "trl"
    if "completion" in value or ("messages" in value and not trl.waits(value)):
        return "trl"
    if "prompt" in value and isinstance(value["prompt"], str) and ours:
        return own_name
    if "text" in value and "id" in value:
        return own_name
    if {"prompt", "text"} & value.keys():
        return "trl"
    return own_name if ours & {"response", "responses"} else None

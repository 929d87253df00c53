"""Which format a file has: told behind its name, or found by its first row."""

import difflib
import pathlib
from dataclasses import replace
from typing import Any

from rlhf_jax.data.readers import hub, pairs, tables, trl
from rlhf_jax.data.readers.column_map import MAP, parsed_map
from rlhf_jax.data.readers.columns import mapped
from rlhf_jax.data.readers.containers import any_rows, ending, first_row
from rlhf_jax.data.readers.formats import FORMATS, Format
from rlhf_jax.errors import InputError

__all__ = ["detect_format", "format_of", "named"]

GENERAL = ("jsonl", "csv", "tsv", "trl", "hh")  # formats that share columns


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
        return file, name, mapped(parsed_map(name.removeprefix(MAP)))
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
    first = first_row(path)
    if first is None:
        return "jsonl"
    own_name = kind[1:] if kind in (".csv", ".tsv") else "jsonl"
    found = _of_row(first, own_name)
    if found is None:
        columns = ", ".join(map(str, first)) or "none"
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
    if {"conversations", "chosen", "rejected"} <= columns:
        return "trl"
    for name, known in FORMATS.items():
        if name not in GENERAL and any(keys <= columns for keys in known.keys):
            if name != "gsm8k" or "####" in str(value["answer"]):
                return name
    return _of_general(value, ours, own_name)


def _of_general(value: dict[str, Any], ours: set[str], own_name: str) -> str | None:
    """Our own format, TRL's types or HH-RLHF, which share columns."""
    if {"chosen", "rejected"} & value.keys():
        alone = not {*pairs.ASKED, "messages"} & value.keys()
        return "hh" if alone and isinstance(value.get("chosen"), str) else "trl"
    if isinstance(value.get("prompt"), str) and "response" in ours:
        return own_name
    if "completion" in value:
        return "trl"
    talks = value.get("messages") is not None
    if talks and not ("prompt" in value and pairs.waits(value)):
        return "trl"
    if "prompt" in value and isinstance(value["prompt"], str) and ours:
        return own_name
    if "text" in value and "id" in value:
        return own_name
    if {"prompt", "text"} & value.keys():
        return "trl"
    return own_name if ours & {"response", "responses"} else None

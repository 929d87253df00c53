"""Rows of a file, whatever holds them: JSON, CSV, TSV, Parquet, the hub.

An empty cell, and a null of Parquet or the hub, is no field of its row. A table has
conversations and other nested values as JSON in a cell.
"""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from rlhf_jax.data.json_arrays import json_file_rows
from rlhf_jax.data.readers import hub, tables
from rlhf_jax.data.rows import Intake, Row, RowError
from rlhf_jax.data.strict_json import parsed
from rlhf_jax.data.unpacked import unpacked_name
from rlhf_jax.errors import InputError

__all__ = ["any_rows", "ending", "first_row"]

# columns that hold nested values, which a table has as JSON
NESTED = {
    "messages", "conversations", "conversation", "conversation_a", "conversation_b",
    "history", "completions", "answers", "fields", "ranking", "ranking-responses",
    "instances", "questions", "annotators", "metadata", "tools",
}  # fmt: skip
# columns that hold a text or a conversation
SPOKEN = {"prompt", "completion", "chosen", "rejected", "context"}
BATCH = 256  # rows of a Parquet file in memory at once


def ending(path: str | pathlib.Path) -> str:
    """What kind of file a name tells, its packing aside.

    >>> ending("a/b.JSONL.gz"), ending("b")
    ('.jsonl', '')
    """
    return pathlib.PurePath(unpacked_name(path)).suffix.lower()


def any_rows(path: str | pathlib.Path, intake: Intake) -> Iterator[Row]:
    """Rows of a file or of a set of the hub, told by the name."""
    if str(path).startswith(hub.PREFIX):
        return hub.hub_rows(str(path), intake)
    kind = ending(path)
    if kind == ".parquet":
        return parquet_rows(path, intake)
    if kind in (".csv", ".tsv"):
        rows = tables.csv_rows if kind == ".csv" else tables.tsv_rows
        return unfolded(rows(path, intake), intake)
    return json_file_rows(path, intake)


def unfolded(rows: Iterator[Row], intake: Intake) -> Iterator[Row]:
    """Rows of a table without empty cells, nested values as what they are."""
    for row in rows:
        try:
            value = cells_of(row.value)
        except RowError as error:
            intake.reject(row, error)
        else:
            yield Row(row.file, row.line, value, row.raw, row.nth)


def cells_of(value: dict[str, str]) -> dict[str, Any]:
    """The cells of a row that are not empty, nested values as what they are."""
    return {name: _unfolded(name, cell) for name, cell in value.items() if cell != ""}


def first_row(path: str | pathlib.Path) -> Any:
    """The first good row of a file, for its columns: a table's are there if empty."""
    kind = ending(path)
    remote = str(path).startswith(hub.PREFIX)
    rows = any_rows(path, Intake("skip"))
    if remote or kind not in (".csv", ".tsv"):
        row = next(rows, None)
        return None if row is None else row.value
    raw = tables.csv_rows if kind == ".csv" else tables.tsv_rows
    header, full = next(raw(path, Intake("skip")), None), next(rows, None)
    return None if full is None else {**dict.fromkeys(header.value, ""), **full.value}


def _unfolded(column: str, cell: str) -> Any:
    nested = column in NESTED and cell[:1] in ("[", "{")
    if not nested and not (column in SPOKEN and cell.startswith("[{")):
        return tables.unquoted(cell)
    try:
        return parsed(cell.encode("utf-8"))
    except RowError as error:
        if nested:
            raise RowError(column, f"expected JSON in the cell: {error.why}") from error
        return cell


def parquet_rows(path: str | pathlib.Path, intake: Intake) -> Iterator[Row]:
    """Rows of a Parquet file, told by their number; a few hundred are in memory.

    Raises:
      InputError: `pyarrow` is not installed; no such file, or damaged.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            f"{path}: expected the `pyarrow` library: pip install 'rlhf_jax[data]'"
        ) from error
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH):
                for value in batch.to_pylist():
                    number += 1
                    intake.rows += 1
                    present = {k: v for k, v in value.items() if v is not None}
                    raw = json.dumps(value, ensure_ascii=False, default=str)
                    raw = raw.encode("utf-8", "backslashreplace")
                    yield Row(str(path), number, present, raw)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except pyarrow.ArrowException as error:
        said = (str(error).splitlines() or ["unreadable"])[0]
        raise InputError(
            f"{path}:{number + 1}: damaged or no Parquet: {said}"
        ) from error

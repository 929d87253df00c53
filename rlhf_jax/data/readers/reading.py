"""The one function that reads a file of any format."""

import itertools
import pathlib
from collections.abc import Iterator

from pydantic import ValidationError

from rlhf_jax.data.readers.detection import format_of
from rlhf_jax.data.readers.formats import Format
from rlhf_jax.data.readers.told import told
from rlhf_jax.data.records import Ranking, Record
from rlhf_jax.data.rows import Intake, Row, RowError, as_dict
from rlhf_jax.errors import InputError

__all__ = ["read"]

LOOKED_AT = 100  # rows among which a column must be for the file to have it


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
    if intake.on_bad_row == "error" and objects:
        _refuse_all(name, chosen, objects)
    for row in itertools.chain(head, rows):
        if not isinstance(row.value, dict):
            yield row  # refused where it is read
            continue
        try:
            chosen.refuse(name, row)
        except RowError as error:
            intake.reject(row, error)
        else:
            yield chosen.without_unknown(row, intake)


def _refuse_all(name: str, chosen: Format, rows: list[Row]) -> None:
    """Refuses, once, a file in whose every row the same field would be ignored."""
    fields = set()
    for row in rows:
        try:
            chosen.refuse(name, row)
            return
        except RowError as error:
            fields.add(error.field)
            found = error
    if len(fields) == 1:
        raise InputError(f"{rows[0].file}:{rows[0].line}: {found}")


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

"""CSV and TSV: a header, then one row per record."""

import csv
import json
import re
from collections.abc import Iterator

from rlhf_jax.data.readers.own import record_of
from rlhf_jax.data.records import Record
from rlhf_jax.data.rows import Intake, Row, RowError, numbered_lines
from rlhf_jax.data.writers import FORMULA
from rlhf_jax.errors import InputError

LISTS = re.compile(r"^(responses|ranks|likert|flags|shown_order)_(\d+)$")
NUMBERS = {"ranks", "likert", "shown_order"}


def csv_rows(path, intake: Intake) -> Iterator[Row]:
    """Rows of a comma-separated file; quoted cells may run over several lines."""
    yield from _rows(path, intake, delimiter=",", strict=True)


def tsv_rows(path, intake: Intake) -> Iterator[Row]:
    """Rows of a tab-separated file; quotes are ordinary characters."""
    yield from _rows(path, intake, delimiter="\t", quoting=csv.QUOTE_NONE)


def _rows(path, intake: Intake, **dialect) -> Iterator[Row]:
    name = str(path)
    reader = csv.reader(_text_lines(path, intake), **dialect)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            intake.rows += 1
            intake.reject(Row(name, line, None), RowError("", f"expected CSV: {error}"))
            continue
        if header is None:
            header = _header(name, cells)
        elif not cells:
            intake.warn("blank line", name, line)
        else:
            intake.rows += 1
            raw = json.dumps(cells, ensure_ascii=False).encode()
            row = Row(name, line, dict(zip(header, cells, strict=False)), raw)
            if len(cells) == len(header):
                yield row
            else:
                why = f"expected {len(header)} cells, got {len(cells)}"
                intake.reject(row, RowError("", why))


def _header(name: str, cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    if len(set(header)) < len(header):
        raise InputError(f"{name}:1: header: expected different columns, got {header}")
    return header


def _text_lines(path, intake: Intake) -> Iterator[str]:
    for number, line in numbered_lines(path, intake, keep_ends=True):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}:{number}: expected UTF-8, byte {error.start + 1} is "
                f"0x{line[error.start]:02x}"
            ) from error


def table_record(row: Row) -> Iterator[Record]:
    """A row of `writers.write_csv`: numbered columns are lists, empty cells absent."""
    value: dict = {}
    for column, cell in row.value.items():
        if cell == "" and not column.startswith("responses_"):
            continue
        numbered = LISTS.match(column)
        if numbered:
            value.setdefault(numbered[1], []).append(_cell(numbered[1], cell))
        else:
            value[column] = _cell(column, cell)
    # An empty cell may be an empty response or none at all: the ranks tell.
    responses = value.pop("responses", [])
    if "ranks" in value:
        value["responses"] = responses[: len(value["ranks"])]
    elif any(responses):
        value["responses"] = responses
    yield record_of(value)


def _cell(column: str, cell: str):
    if column in NUMBERS or column in {"seconds", "meta", "flags"}:
        try:
            return json.loads(cell)
        except (ValueError, RecursionError) as error:
            expected = (
                "a number" if column in NUMBERS or column == "seconds" else "JSON"
            )
            raise RowError(column, f"expected {expected}, got {cell[:40]!r}") from error
    quoted = cell.startswith("'") and cell[1:].startswith(FORMULA)
    return cell[1:] if quoted else cell

"""CSV and TSV: a header, then one row per record."""

import csv
import json
import re
from collections.abc import Iterator
from typing import Any

from rlhf_jax.data.readers.own import KNOWN, record_of
from rlhf_jax.data.records import Record
from rlhf_jax.data.rows import MAX_LINE, Intake, Row, RowError, numbered_lines
from rlhf_jax.data.strict_json import parsed
from rlhf_jax.data.writers import FORMULA
from rlhf_jax.errors import InputError

LISTS = re.compile(r"^(responses|ranks|likert|flags|shown_order)_(\d{1,4})$")
NUMBERS = {"ranks", "likert", "shown_order"}
WHOLE = {"responses", *NUMBERS, "flags", "messages"}  # lists that stand in one cell


def csv_rows(path, intake: Intake) -> Iterator[Row]:
    """Rows of a comma-separated file; quoted cells may run over several lines."""
    yield from _rows(path, intake, delimiter=",", strict=True)


def tsv_rows(path, intake: Intake) -> Iterator[Row]:
    """Rows of a tab-separated file; quotes are ordinary characters."""
    yield from _rows(path, intake, delimiter="\t", quoting=csv.QUOTE_NONE)


def _rows(path, intake: Intake, **dialect) -> Iterator[Row]:
    name = str(path)
    csv.field_size_limit(MAX_LINE)  # the module's own is 128 kB
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
    """A row of a table: empty cells are absent.

    A list stands in numbered columns (`responses_1`, `responses_2`, ...), as
    `writers.write_csv` writes it, or as JSON in one cell (`responses`).
    """
    value: dict = {}
    numbered: dict[str, list[tuple[int, Any]]] = {}
    for column, cell in row.value.items():
        place = LISTS.match(column)
        if place:
            name, number = place[1], int(place[2])
            item = None if cell == "" and name != "responses" else _cell(name, cell)
            numbered.setdefault(name, []).append((number, item))
        elif cell == "":
            continue
        elif column in WHOLE:
            value[column] = _json(column, cell, "a JSON list", list)
        else:
            value[column] = _cell(column, cell)
    lists = {
        name: [item for _, item in sorted(found, key=lambda pair: pair[0])]
        for name, found in numbered.items()
    }
    for name in sorted(lists):  # ranks before responses
        # An empty cell may be an empty response or none at all: the ranks tell.
        places = len(value.get("ranks", [])) if name == "responses" else 0
        found = lists[name]
        while len(found) > places and found[-1] in (None, ""):
            found.pop()
        if found and name in value:
            raise RowError(name, f"expected one cell or {name}_1, ..., got both")
        if found:
            value[name] = found
    yield record_of(value, row.name)


def is_known(column: str) -> bool:
    """Whether a table of records may have this column."""
    return column in KNOWN or LISTS.match(column) is not None


def _cell(column: str, cell: str):
    if column in NUMBERS or column == "seconds":
        return _json(column, cell, "a number", int | float)
    if column in {"meta", "flags"}:
        return _json(column, cell, "a JSON object", dict)
    return unquoted(cell)


def unquoted(cell: str) -> str:
    """A cell without the quote that `writers` puts before what looks like a formula."""
    quoted = cell.startswith("'") and cell[1:].startswith(FORMULA)
    return cell[1:] if quoted else cell


def _json(column: str, cell: str, expected: str, kind):
    try:
        value = parsed(cell.encode("utf-8"))
    except RowError as error:
        raise RowError(column, f"expected {expected}, got {cell[:40]!r}") from error
    if not isinstance(value, kind):
        raise RowError(column, f"expected {expected}, got {cell[:40]!r}")
    return value

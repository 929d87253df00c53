"""Rows of evaluation files, with the place of everything that is wrong.

Reads CSV, TSV, JSON lines, JSON and Parquet, packed or not, and datasets of the
Hugging Face hub (`hub:NAME`, `hub:NAME/CONFIG`, with `:SPLIT`). A person's mistake ends
with `file:line: field: why` and exit code 2.
"""

import csv
import dataclasses
import io
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rlhf_jax.data.readers.containers import ending, parquet_rows
from rlhf_jax.data.rows import MAX_LINE, Intake
from rlhf_jax.data.unpacked import opened, readable
from rlhf_jax.errors import InputError

HUB = "hub:"


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a file: its fields and where it stands.

    Attributes:
      fields: column -> value; text in CSV and TSV, any JSON value otherwise.
      place: "file:line".
    """

    fields: dict[str, Any]
    place: str

    def __getitem__(self, field: str) -> Any:
        return self.value(field)

    def __contains__(self, field: str) -> bool:
        return self.fields.get(field) is not None

    def wrong(self, field: str, why: str) -> InputError:
        """The error that names this row and field."""
        return InputError(f"{self.place}: {field}: {why}")

    def value(self, field: str) -> Any:
        """The field; refused when absent or null."""
        if field not in self:
            have = ", ".join(map(str, self.fields)) or "nothing"
            raise self.wrong(field, f"missing; this row has {have}")
        return self.fields[field]

    def text(self, *names: str, empty: bool = False) -> str:
        """The first of these fields that is there, a text; blank only if `empty`."""
        name = next((n for n in names if n in self), names[0])
        found = self.value(name)
        if not isinstance(found, str):
            raise self.wrong(name, f"expected text, found {found!r}")
        if not empty and not found.strip():
            raise self.wrong(name, "is empty")
        return found

    def number(self, field: str) -> float:
        """The field as a finite number."""
        found = self.value(field)
        try:
            number = float(found)
        except (TypeError, ValueError):
            raise self.wrong(field, f"expected a number, found {found!r}") from None
        if isinstance(found, bool) or not math.isfinite(number):
            raise self.wrong(field, f"expected a finite number, found {found!r}")
        return number

    def choice(self, field: str, options: dict[Any, Any]) -> Any:
        """`options[value]`; refused when the value is none of them."""
        found = self.value(field)
        if isinstance(found, list | dict) or found not in options:
            known = ", ".join(sorted({repr(o) for o in options}))
            raise self.wrong(field, f"expected one of {known}, found {found!r}")
        return options[found]

    def list(self, field: str, kind: type = str) -> list:
        """The field as a list whose entries are all `kind`."""
        found = self.value(field)
        if not isinstance(found, list) or not all(isinstance(e, kind) for e in found):
            raise self.wrong(field, f"expected a list of {kind.__name__}")
        return found


def find_file(folder: str | os.PathLike, names: Sequence[str]) -> pathlib.Path | str:
    """The first of `names` (or with .gz, .zst) in a folder; a file or hub name itself.

    Raises:
      InputError: none is there.
    """
    if str(folder).startswith(HUB):
        return str(folder)
    folder = pathlib.Path(folder)
    if folder.is_file():
        return folder
    if not folder.is_dir():
        raise InputError(f"{folder}: no such file or folder")
    for name in names:
        for path in (folder / name, folder / f"{name}.gz", folder / f"{name}.zst"):
            if path.is_file():
                return path
    raise InputError(f"{folder}: holds none of {', '.join(names)}")


def read_text(path: str | os.PathLike) -> str:
    """A UTF-8 text file, gzip or Zstandard or neither, newlines as they are.

    Raises:
      InputError: absent, not UTF-8 (with the line), or damaged.
    """
    with opened(path) as file, readable(str(path), 1):
        raw = file.read()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(f"{path}:{line}: is not UTF-8: {error.reason}") from None


def read_document(path: str | os.PathLike) -> Any:
    """One JSON document (SQuAD, DROP, QuAC are published so)."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None


def kind_of(source: str | os.PathLike) -> str:
    """The ending of a file's name, that of its packing aside: "jsonl", "csv"."""
    return ending(source).removeprefix(".")


def read_rows(
    source: str | os.PathLike, *, columns: Iterable[str] = (), split: str = "validation"
) -> list[Row]:
    """The rows of a file or of a hub dataset.

    Args:
      source: a path (its ending decides: .csv, .tsv, .jsonl, .json, .parquet; .gz or
        .zst after it) or `hub:NAME[/CONFIG][:SPLIT]`.
      columns: fields that every row must have.
      split: of a hub dataset, when the source names none.

    Raises:
      InputError: absent, malformed, without rows, or a column missing.
    """
    if str(source).startswith(HUB):
        rows = list(_hub_rows(str(source)[len(HUB) :], split))
    else:
        kind, path = kind_of(source), str(source)
        if kind not in (*_READERS, "parquet"):
            known = ", ".join(f".{name}" for name in (*_READERS, "parquet"))
            raise InputError(f"{path}: unknown file kind .{kind}; known: {known}")
        if kind == "parquet":
            rows = [
                Row(row.value, f"{path}:{row.line}")
                for row in parquet_rows(path, Intake())
            ]
        else:
            rows = list(_READERS[kind](read_text(path), path))
    if not rows:
        raise InputError(f"{source}: has no rows")
    for name in columns:
        if name not in rows[0].fields:
            have = ", ".join(rows[0].fields)
            raise InputError(
                f"{rows[0].place}: {name}: no such column; there are {have}"
            )
    return rows


def _delimited(delimiter: str, quoting: int) -> Callable[[str, str], Iterator[Row]]:
    def read(text: str, path: str) -> Iterator[Row]:
        stream = io.StringIO(text, newline="")
        csv.field_size_limit(MAX_LINE)  # the module's own is 128 kB
        reader = csv.reader(stream, delimiter=delimiter, quoting=quoting, strict=True)
        try:
            header = next(reader, [])
            start = reader.line_num + 1
            for cells in reader:
                place, start = f"{path}:{start}", reader.line_num + 1
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise InputError(
                        f"{place}: {len(cells)} cells where the header has "
                        f"{len(header)}"
                    )
                yield Row(dict(zip(header, cells, strict=True)), place)
        except csv.Error as error:
            raise InputError(f"{path}:{reader.line_num}: {error}") from None

    return read


def _json_lines(text: str, path: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{place}: not JSON: {error.msg}") from None
        yield _object_row(fields, place)


def _json_list(text: str, path: str) -> Iterator[Row]:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    if not isinstance(document, list):
        raise InputError(f"{path}:1: expected a list of objects")
    for number, fields in enumerate(document):
        yield _object_row(fields, f"{path}[{number}]")


def _object_row(fields: Any, place: str) -> Row:
    if not isinstance(fields, dict):
        raise InputError(f"{place}: expected an object, found {type(fields).__name__}")
    return Row(fields, place)


def _hub_rows(name: str, split: str) -> Iterator[Row]:
    try:
        import datasets
    except ImportError:
        raise InputError(
            f"hub:{name}: needs the datasets library: pip install 'rlhf_jax[data]'"
        ) from None
    name, _, named_split = name.partition(":")
    owner_and_name = name.split("/")
    config = owner_and_name.pop() if len(owner_and_name) > 2 else None
    try:
        found = datasets.load_dataset(
            "/".join(owner_and_name), config, split=named_split or split
        )
    except Exception as error:  # every backend of the hub has its own error types
        raise InputError(f"hub:{name}: {error}") from None
    for number, fields in enumerate(found):
        yield Row(dict(fields), f"hub:{name}[{number}]")


_READERS: dict[str, Callable[[str, str], Iterator[Row]]] = {
    "csv": _delimited(",", csv.QUOTE_MINIMAL),
    "tsv": _delimited("\t", csv.QUOTE_NONE),
    "jsonl": _json_lines,
    "json": _json_list,
}

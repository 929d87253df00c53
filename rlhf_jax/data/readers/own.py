"""Own JSONL: rows that are records already."""

from collections.abc import Iterator

from rlhf_jax.data.json_arrays import json_file_rows
from rlhf_jax.data.records import Demonstration, Prompt, Ranking, Record, Text
from rlhf_jax.data.rows import Intake, Row, RowError, as_dict

KNOWN = {
    key for kind in (Demonstration, Prompt, Ranking, Text) for key in kind.model_fields
}


def own_rows(path, intake: Intake) -> Iterator[Row]:
    """Rows of JSON without the fields that no record has; those are warnings."""
    for row in json_file_rows(path, intake):
        unknown = row.value.keys() - KNOWN if isinstance(row.value, dict) else ()
        for key in sorted(unknown):
            intake.warn(f"unknown field {key!r}", row.file, row.line)
            del row.value[key]
        yield row


def own_record(row: Row) -> Iterator[Record]:
    """The record that the row's fields spell: ranking, demonstration, text or prompt.

    Raises:
      RowError: no field tells the kind.
    """
    yield record_of(as_dict(row.value, ""))


def record_of(value: dict) -> Record:
    """The record of an object's fields."""
    return kind_of(value).model_validate(value)


def kind_of(value: dict) -> type[Record]:
    """Which of the four records has these fields."""
    for key, kind in (
        ("responses", Ranking),
        ("ranks", Ranking),
        ("response", Demonstration),
        ("text", Text),
        ("prompt", Prompt),
    ):
        if key in value:
            return kind
    raise RowError("prompt", "missing (nor are there responses, response or text)")

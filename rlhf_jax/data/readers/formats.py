"""The table of formats."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rlhf_jax.data.json_arrays import json_file_rows
from rlhf_jax.data.readers import (
    arena,
    comparisons,
    dialogues,
    documents,
    instructions,
    own,
    pairs,
    preferences,
    tables,
    trees,
    trl,
)
from rlhf_jax.data.readers.containers import any_rows
from rlhf_jax.data.readers.meaning import refuse_unused
from rlhf_jax.data.records import Record
from rlhf_jax.data.rows import Intake, Row

__all__ = ["FORMATS", "Format"]

RowReader = Callable[[Any, Intake], Iterator[Row]]


@dataclass(frozen=True)
class Format:
    """How files of one kind become records.

    Args:
      convert: one row -> its records, none, one or many.
      keys: sets of fields, by one of which, whole, a row of this format is known; a
        file that lacks them all is refused at once.
      uses: row -> the fields that `convert` uses, of those that change what a row
        means; None: `drops` tells, or all that is used was named.
      drops: whether a field is unknown; such fields are left out and told as warnings.
      group: puts rows together that make one record.
      rows: file -> rows.
      missing: what is wrong where no row has a column that is needed; `keys` tell
        where None.
    """

    convert: Callable[[Row], Iterable[Record]]
    keys: tuple[frozenset[str], ...] = ()
    uses: Callable[[dict[str, Any]], Collection[str]] | None = None
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

    def refuse(self, name: str, row: Row) -> None:
        """Refuses a row with a field that would be ignored and changes what it means.

        Raises:
          RowError: names the field.
        """
        if self.uses is not None:
            refuse_unused(row, self.uses(row.value), name)
        elif self.drops is not None:
            used = [key for key in row.value if not self.drops(key)]
            refuse_unused(row, used, name)

    def without_unknown(self, row: Row, intake: Intake) -> Row:
        """The row without the fields that are not used; those are warnings."""
        unknown = sorted(filter(self.drops, row.value)) if self.drops else []
        for key in unknown:
            intake.warn(f"unknown field {key!r}", row.file, row.line)
            del row.value[key]
        return row


def _known(convert, *keys: str, uses: Iterable[str] = (), group=iter) -> Format:
    """A format of objects; `keys` are words, each the fields of one alternative."""
    wanted = tuple(frozenset(words.split()) for words in keys)
    used = frozenset(uses).union(*wanted)
    return Format(convert, wanted, lambda value: used, group=group)


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
        trl.uses,
        drops=lambda key: key not in trl.KNOWN,
        group=trl.grouped_rows,
    ),
    "sharegpt": _known(
        dialogues.sharegpt, "conversations", "conversation", uses=OPENING[:2]
    ),
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

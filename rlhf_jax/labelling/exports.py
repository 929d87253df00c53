"""Answers -> records, frozen at an event.

"As of event n" is one state of the database: of each task the revision that was in
force then, whatever was sent or undone since. Two exports as of the same event are
byte for byte alike (unless a person was removed between them).
"""

import collections
import dataclasses
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from rlhf_jax.data.expansion import few_shot_demonstrations
from rlhf_jax.data.records import FLAG_NAMES, Demonstration, Prompt, Ranking, Record
from rlhf_jax.data.writers import WRITERS
from rlhf_jax.errors import InputError
from rlhf_jax.labelling import schema
from rlhf_jax.labelling.showing import distinct
from rlhf_jax.labelling.store import Store
from rlhf_jax.storage import write_lines

__all__ = ["FORMATS", "Export", "answers_as_of", "export", "records_of", "talks"]

FORMATS = (*WRITERS, "answers")
_WORK = ("work", "adjudication")
_RANKS = {
    "first": [1, 2],
    "second": [2, 1],
    "tie": [1, 1],
    "both_bad": [1, 1],
}


@dataclasses.dataclass(frozen=True)
class Export:
    """What an export held.

    Attributes:
      as_of: the event at which it is frozen; give it again for the same rows.
      records: rows written.
      left_out: why -> answers that are not among them.
    """

    as_of: int
    records: int
    left_out: dict[str, int]


def export(
    store: Store,
    path: str | pathlib.Path,
    *,
    form: str = "jsonl",
    as_of: int | None = None,
    batch: str | None = None,
    purposes: Iterable[str] = _WORK,
    extras: bool = False,
) -> Export:
    """Writes answers to a file.

    Args:
      store: the study.
      path: the file; it appears whole or not at all.
      form: "jsonl" (our records with every field), "trl" (a row per untied pair),
        "csv" (safe against formulas), "answers" (everything as it was answered, of
        every kind of task).
      as_of: number of an event; None: the newest.
      batch: of this batch alone.
      purposes: of "work", "adjudication", "gold", "repeat", "qualification".
      extras: also late answers beyond an item's overlap.

    Raises:
      InputError: no such form or batch.
    """
    if form not in FORMATS:
        raise InputError(f"format {form!r}: expected one of {', '.join(FORMATS)}")
    left_out: collections.Counter[str] = collections.Counter()
    with store.read() as connection:
        as_of = store.last_event(connection) if as_of is None else as_of
        rows = answers_as_of(connection, as_of, batch=batch)
        chosen = list(_chosen(rows, set(purposes), extras, left_out))
        said = talks(connection)
        if form == "answers":
            written = write_lines(path, (_plain(row) for row in chosen))
        else:
            records = []
            for row in chosen:
                made = records_of(row, said.get(row.assignment, []))
                if not made:
                    left_out["flags have no record: use the format answers"] += 1
                records += made
            written = WRITERS[form](path, records)
    return Export(as_of, written, dict(left_out))


def _chosen(
    rows: Iterable[sa.Row],
    purposes: set[str],
    extras: bool,
    left_out: collections.Counter[str],
) -> Iterable[sa.Row]:
    for row in rows:
        if row.purpose not in purposes:
            left_out[f"purpose {row.purpose}"] += 1
        elif row.extra and not extras:
            left_out["late, beyond the overlap"] += 1
        else:
            yield row


def answers_as_of(
    connection: sa.Connection, as_of: int, *, batch: str | None = None
) -> list[sa.Row]:
    """Answers in force at an event, with their item, person and questions; ordered.

    Raises:
      InputError: there is no batch of this name.
    """
    answers, assignments = schema.answers, schema.assignments
    items, batches, people = schema.items, schema.batches, schema.people
    definitions, guidelines = schema.definitions, schema.guidelines
    query = (
        sa.select(
            answers.c.content,
            answers.c.revision,
            answers.c.seconds,
            answers.c.extra,
            answers.c.submitted_at,
            answers.c.event,
            assignments.c.id.label("assignment"),
            assignments.c.purpose,
            assignments.c.repetition,
            assignments.c.shown_order,
            items.c.id.label("item"),
            items.c.key,
            items.c.record,
            items.c.digest,
            items.c.gold,
            batches.c.name.label("batch"),
            people.c.id.label("person"),
            people.c.name.label("labeler"),
            people.c.group,
            definitions.c.document,
            guidelines.c.name.label("guideline"),
            guidelines.c.version.label("guideline_version"),
        )
        .join(assignments, assignments.c.id == answers.c.assignments_id)
        .join(items, items.c.id == assignments.c.items_id)
        .join(batches, batches.c.id == items.c.batches_id)
        .join(people, people.c.id == assignments.c.people_id)
        .join(definitions, definitions.c.id == assignments.c.definitions_id)
        .join(guidelines, guidelines.c.id == assignments.c.guidelines_id)
        .where(answers.c.event <= as_of, answers.c.content.is_not(None))
        .where(
            sa.or_(
                answers.c.withdrawn_event.is_(None),
                answers.c.withdrawn_event > as_of,
            )
        )
        .order_by(batches.c.id, items.c.position, people.c.id, assignments.c.repetition)
    )
    if batch is not None:
        names = connection.scalars(sa.select(batches.c.name)).all()
        if batch not in names:
            known = ", ".join(names) or "none"
            raise InputError(f"batch {batch!r}: not in this study; there are {known}")
        query = query.where(batches.c.name == batch)
    return list(connection.execute(query))


def records_of(row: sa.Row, talk: Sequence[Any] = ()) -> list[Record]:
    """An answer as our records: one; K demonstrations of a few-shot prompt with K
    examples (section A.3); none of flags alone, which have no record."""
    kind = row.document["kind"]
    if kind in {"ranking", "pairwise"}:
        return [_ranking(row, kind)]
    if kind == "demonstration":
        prompt, response = row.record["prompt"], row.content["text"]
        return [Demonstration(**_origin(row), prompt=prompt, response=response)]
    if kind == "prompt":
        return _prompts(row)
    return [_chat(row, talk)] if kind == "chat" else []


def _origin(row: sa.Row, **more: Any) -> dict[str, Any]:
    """What an answer's record takes from the item, and how it came about, in `meta`."""
    names = ("id", "user", "split", "group", "use_case", "kind", "source")
    kept = {name: row.record[name] for name in names if name in row.record}
    made = {
        "batch": row.batch,
        "purpose": row.purpose,
        "labeler_group": row.group,
        "revision": row.revision,
        "event": row.event,
        "submitted_at": row.submitted_at,
        "item": row.digest,
        "task": f"{row.document['name']}@{row.document['version']}",
        "fields": {k: v for k, v in row.content["fields"].items() if v is not None},
        **more,
    }
    if row.document["kind"] in {"demonstration", "prompt"}:
        made |= {
            "labeler": row.labeler,
            "seconds": row.seconds,
            "guideline": f"{row.guideline}@{row.guideline_version}",
        }
    return {**kept, "meta": {**row.record.get("meta", {}), "labelling": made}}


def _ranking(row: sa.Row, kind: str) -> Ranking:
    """Slots of the screen -> responses as they were made; copies share all answers."""
    texts, which = distinct(row.record)
    slots = row.content["slots"]
    slot_of = {text: slot for slot, text in enumerate(row.shown_order)}
    mine = [slots[slot_of[text]] for text in which]
    if kind == "pairwise":
        by_slot = _RANKS[row.content["choice"]]
        ranks = [by_slot[slot_of[text]] for text in which]
        more = {"choice": row.content["choice"]}
    else:
        ranks, more = [slot["rank"] for slot in mine], {}
    fields = [slot["fields"] for slot in mine]
    others = [
        {
            name: value
            for name, value in one.items()
            if name not in {*FLAG_NAMES, "likert"} and value not in (None, False)
        }
        for one in fields
    ]
    if any(others):
        more["response_fields"] = others
    flags = [{n: one[n] for n in FLAG_NAMES if n in one} for one in fields]
    likert = [one.get("likert") for one in fields]
    return Ranking(
        **_origin(row, **more),
        prompt=row.record["prompt"],
        responses=row.record["responses"],
        ranks=ranks,
        likert=likert if all(value in range(1, 8) for value in likert) else None,
        flags=flags if any(flags) else None,
        labeler=row.labeler,
        shown_order=[
            index
            for text in row.shown_order
            for index, other in enumerate(which)
            if other == text
        ],
        seconds=row.seconds,
        guideline=f"{row.guideline}@{row.guideline_version}",
    )


def _prompts(row: sa.Row) -> list[Record]:
    """A prompt that a person wrote; a few-shot one as demonstrations."""
    content = row.content
    origin = _origin(row, brief=row.record["prompt"])
    origin |= {"id": f"{row.key}/{row.assignment}", "kind": content["kind"]}
    origin["use_case"] = content["fields"].get("use_case") or origin.get("use_case")
    if content["kind"] != "few-shot":
        return [Prompt(**origin, prompt=content["prompt"])]
    name = origin.pop("id")
    pairs = [(e["query"], e["response"]) for e in content["examples"]]
    return list(few_shot_demonstrations(name, content["prompt"], pairs, **origin))


def _chat(row: sa.Row, talk: Sequence[Any]) -> Ranking:
    """A live comparison: what either model said, with the person's words between."""
    sides = []
    for model in range(2):
        said = talk[0].replies[model]
        for turn in talk[1:]:
            said += f"\n\nHuman: {turn.message}\n\nAssistant: {turn.replies[model]}"
        sides.append(said)
    by_slot = _RANKS[row.content["choice"]]
    ranks = [by_slot[row.shown_order.index(model)] for model in range(2)]
    return Ranking(
        **_origin(row, brief=row.record["prompt"], choice=row.content["choice"]),
        prompt=talk[0].message,
        responses=sides,
        ranks=ranks,
        labeler=row.labeler,
        shown_order=row.shown_order,
        seconds=row.seconds,
        guideline=f"{row.guideline}@{row.guideline_version}",
    )


def talks(connection: sa.Connection) -> dict[int, list[sa.Row]]:
    """Assignment -> its live conversation, turn by turn."""
    table = schema.chat_turns
    found: dict[int, list[sa.Row]] = {}
    query = sa.select(table).order_by(table.c.assignments_id, table.c.number)
    for turn in connection.execute(query):
        found.setdefault(turn.assignments_id, []).append(turn)
    return found


def _plain(row: sa.Row) -> dict[str, Any]:
    """An answer as it was given, with what was shown."""
    texts, _ = distinct(row.record)
    names = ("key", "batch", "labeler", "group", "purpose", "repetition", "revision")
    return {
        **{name: getattr(row, name) for name in names},
        "kind": row.document["kind"],
        "task": f"{row.document['name']}@{row.document['version']}",
        "guideline": f"{row.guideline}@{row.guideline_version}",
        "prompt": row.record.get("prompt"),
        "shown": [texts[index] for index in row.shown_order if index < len(texts)],
        "answer": row.content,
        "seconds": row.seconds,
        "submitted_at": row.submitted_at,
        "event": row.event,
    }

"""The qualification round (appendix B.1), and what people tell of themselves.

Three numbers are compared with soft cut-offs: agreement with the researchers on flags,
on rankings, and the mean mark of written demonstrations, which are marked without the
writer's name. A person decides; the numbers advise.
"""

import secrets
import statistics
from typing import Any

import sqlalchemy as sa

from rlhf_jax.errors import InputError
from rlhf_jax.labelling import schema
from rlhf_jax.labelling.exports import answers_as_of
from rlhf_jax.labelling.refusals import Missing
from rlhf_jax.labelling.statistics import gold_flags, gold_pairs
from rlhf_jax.labelling.store import Store
from rlhf_jax.labelling.tasks import clean_text

__all__ = [
    "CUT_OFFS",
    "add_mark",
    "save_survey",
    "screening_table",
    "survey_questions",
    "unmarked",
]

# appendix B.1: 75 % on flags and on comparisons, 6 of 7 for demonstrations
CUT_OFFS = {"flags": 0.75, "rankings": 0.75, "demonstrations": 6.0}

# The fourth part of the screening, and the appendix's optional questionnaire.
_SELF = {
    "cultural_groups": "For which topics or cultural groups can you tell well what is "
    "sensitive?",
    "languages": "Which languages do you read well?",
    "expertise": "Which fields do you know well?",
}
_DEMOGRAPHICS = {
    "gender": ["woman", "man", "nonbinary", "another"],
    "age": ["18-24", "25-34", "35-44", "45-54", "55-64", "65 or more"],
    "region": [
        "Africa",
        "East Asia",
        "Southeast Asia",
        "South Asia",
        "West Asia",
        "Europe",
        "North America",
        "Latin America",
        "Oceania",
    ],
    "education": ["less than school", "school", "bachelor", "master or above"],
}


def survey_questions() -> dict[str, Any]:
    """`self`: name -> question; `demographics`: name -> options; all of it optional."""
    return {"self": _SELF, "demographics": _DEMOGRAPHICS}


def save_survey(store: Store, person: int, body: dict[str, Any]) -> None:
    """Self-assessment goes to the person; demographics to a row without one.

    Raises:
      InputError: an unknown question or option, or demographics for a second time.
    """
    about, rest = body.get("self") or {}, body.get("demographics") or {}
    if not isinstance(about, dict) or not isinstance(rest, dict):
        raise InputError("survey: expected objects")
    for name, value in about.items():
        if name not in _SELF or not isinstance(value, str):
            raise InputError(f"self.{name}: no such question")
        about[name] = clean_text(value, f"self.{name}")[:2000]
    for name, value in rest.items():
        if value not in _DEMOGRAPHICS.get(name, []):
            raise InputError(f"demographics.{name}: no such question or answer")
    people = schema.people
    with store.write() as connection:
        query = sa.select(people.c.asked_demographics).where(people.c.id == person)
        asked = connection.scalar(query)
        change = people.update().where(people.c.id == person)
        if about:
            connection.execute(change.values(survey=about))
        if rest and asked:
            raise InputError("demographics: you have answered already")
        if rest:
            row = schema.demographics.insert()
            values = {"id": secrets.token_hex(16), "content": rest}
            connection.execute(row.values(**values))
            connection.execute(change.values(asked_demographics=True))


def screening_table(store: Store) -> list[dict[str, Any]]:
    """What each person reached in the qualification round.

    Returns:
      Per person: `flags`, `rankings` in [0, 1], `demonstrations` 1 to 7 (None: nothing
      to compare yet), `left`: tasks to go, `passes`: True, False, or None.
    """
    with store.read() as connection:
        rows = answers_as_of(connection, store.last_event(connection))
        query = sa.select(schema.people).where(schema.people.c.role == "labeler")
        people = connection.execute(query.order_by(schema.people.c.id)).all()
        marks = _marks(connection)
        total = connection.scalar(_asked())
    rows = [row for row in rows if row.purpose == "qualification"]
    found = []
    for who in people:
        mine = [row for row in rows if row.person == who.id]
        if not mine and who.state != "qualifying":
            continue
        scores = {
            "flags": _mean([v for row in mine for v in gold_flags(row)]),
            "rankings": _mean([v for row in mine for v in gold_pairs(row)]),
            "demonstrations": _mean(
                [m for row in mine for m in marks.get(row.assignment, [])]
            ),
        }
        found.append(
            {
                "id": who.id,
                "name": who.name,
                "state": who.state,
                "group": who.group,
                "survey": who.survey or {},
                "left": total - len(mine),
                **scores,
                "passes": _passes(scores, total - len(mine)),
            }
        )
    return found


def _passes(scores: dict[str, float | None], left: int) -> bool | None:
    """Whether every number that there is reaches its cut-off; None: not yet known."""
    known = {name: value for name, value in scores.items() if value is not None}
    if any(value < CUT_OFFS[name] for name, value in known.items()):
        return False
    return True if known and left <= 0 else None


def unmarked(store: Store, scorer: int) -> list[dict[str, Any]]:
    """Demonstrations of the round that this researcher has not marked; no names."""
    marks = schema.marks
    with store.read() as connection:
        rows = answers_as_of(connection, store.last_event(connection))
        query = sa.select(marks.c.assignments_id).where(marks.c.scorer == scorer)
        done = set(connection.scalars(query))
    return [
        {
            "assignment": row.assignment,
            "prompt": row.record["prompt"],
            "text": row.content["text"],
        }
        for row in rows
        if row.purpose == "qualification"
        and row.document["kind"] == "demonstration"
        and row.assignment not in done
    ]


def add_mark(store: Store, scorer: int, assignment: int, mark: int) -> None:
    """A researcher's mark of a demonstration, 1 to 7; a second one replaces it.

    Raises:
      InputError: another number.
      Missing: there is no such demonstration.
    """
    if mark not in range(1, 8):
        raise InputError(f"mark: expected 1 to 7, got {mark}")
    table, assignments = schema.marks, schema.assignments
    with store.write() as connection:
        query = sa.select(assignments.c.id).where(
            assignments.c.id == assignment, assignments.c.purpose == "qualification"
        )
        if connection.scalar(query) is None:
            raise Missing("There is no such demonstration.")
        mine = (table.c.assignments_id == assignment, table.c.scorer == scorer)
        connection.execute(table.delete().where(*mine))
        row = table.insert().values(assignments_id=assignment, scorer=scorer, mark=mark)
        connection.execute(row)
        store.event(connection, "mark", actor=scorer, assignment=assignment, mark=mark)


def _asked() -> sa.Select:
    """How many tasks the open qualification rounds have."""
    items, batches = schema.items, schema.batches
    return (
        sa.select(sa.func.count())
        .select_from(items)
        .join(batches, batches.c.id == items.c.batches_id)
        .where(batches.c.purpose == "qualification", batches.c.closed.is_(False))
    )


def _marks(connection: sa.Connection) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for row in connection.execute(sa.select(schema.marks)):
        found.setdefault(row.assignments_id, []).append(row.mark)
    return found


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None

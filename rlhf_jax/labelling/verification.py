"""Is the database what it says it was? Chain of events, digests, overlaps."""

from collections.abc import Iterator

import sqlalchemy as sa

from rlhf_jax.labelling import schema
from rlhf_jax.labelling.store import FIRST_HASH, Store, chained, digest_of

__all__ = ["problems"]


def problems(store: Store, connection: sa.Connection) -> Iterator[str]:
    """What is wrong, one line each."""
    if store.path is not None:
        found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        yield from (f"integrity: {line}" for line in found if line != "ok")
    yield from _chain(connection)
    yield from _answers(connection)
    yield from _overlaps(connection)


def _chain(connection: sa.Connection) -> Iterator[str]:
    before, number = FIRST_HASH, 0
    query = sa.select(schema.events).order_by(schema.events.c.seq)
    for row in connection.execute(query):
        number += 1
        if row.seq != number:
            yield f"event {number}: missing, the next one is {row.seq}"
            number = row.seq
        if row.hash != chained(before, row._asdict()):
            yield f"event {row.seq}: changed since it was written"
        before = row.hash


def _answers(connection: sa.Connection) -> Iterator[str]:
    """Every submission has its answer, every answer its submission, unchanged."""
    table, events = schema.answers, schema.events
    query = sa.select(events.c.seq, events.c.detail)
    said = {
        row.seq: row.detail.get("digest")
        for row in connection.execute(query.where(events.c.action == "submit"))
    }
    for row in connection.execute(sa.select(table)):
        digest = said.pop(row.event, None)
        if digest is None:
            yield f"answer {row.id}: no event tells of its submission"
        elif row.content is not None and digest_of(row.content) != digest:
            yield f"answer {row.id}: changed since it was submitted"
    for seq in said:
        yield f"event {seq}: its answer is gone"


def _overlaps(connection: sa.Connection) -> Iterator[str]:
    """No item has more answers of its own slots than slots, no slot two owners."""
    slots, assignments = schema.slots, schema.assignments
    owned = sa.select(assignments.c.id).where(
        assignments.c.id == slots.c.assignment,
        assignments.c.items_id == slots.c.items_id,
        assignments.c.state.in_(["open", "done"]),
    )
    query = sa.select(slots.c.id, slots.c.assignment)
    query = query.where(slots.c.assignment.is_not(None), ~owned.exists())
    for row in connection.execute(query):
        yield f"slot {row.id}: its assignment {row.assignment} is not open or done"
    held = sa.select(slots.c.id).where(slots.c.assignment == assignments.c.id)
    query = sa.select(assignments.c.id).where(
        assignments.c.purpose.in_(["work", "adjudication"]),
        assignments.c.state == "done",
        ~held.exists(),
    )
    for row in connection.execute(query):
        yield f"assignment {row.id}: done, but holds no slot of its item"

"""What the browser is told of a task and of one's own progress: no more than needed."""

import time
from typing import Any

import sqlalchemy as sa

from rlhf_jax.labelling import schema
from rlhf_jax.labelling.answering import UNDO_SECONDS
from rlhf_jax.labelling.assignment import own_assignment
from rlhf_jax.labelling.showing import JUDGED, shown_item
from rlhf_jax.labelling.store import Store

__all__ = ["Places", "own_answers", "progress", "task_view"]


def task_view(store: Store, person: int, number: int) -> dict[str, Any]:
    """A task as its person may see it: work, gold and repeats look alike.

    Raises:
      Missing: it is not theirs.
    """
    definitions, guidelines = schema.definitions, schema.guidelines
    with store.read() as connection:
        row = own_assignment(connection, person, number)
        document = connection.scalar(
            sa.select(definitions.c.document).where(
                definitions.c.id == row.definitions_id
            )
        )
        query = sa.select(guidelines.c.id, guidelines.c.name, guidelines.c.version)
        guideline = connection.execute(
            query.where(guidelines.c.id == row.guidelines_id)
        ).one()
        draft = connection.execute(
            sa.select(schema.drafts).where(schema.drafts.c.assignment == number)
        ).first()
        talk = _talk(connection, row)
    kind = document["kind"]
    item = shown_item(row.record, row.shown_order if kind in JUDGED else [])
    return {
        "id": number,
        "open": row.state in {"open", "expired"},
        "kind": kind,
        "title": document["title"],
        "question": document["question"],
        "response_fields": document["response_fields"],
        "item_fields": document["item_fields"],
        "skip_reasons": document["skip_reasons"],
        "guideline": guideline._asdict(),
        "item": item,
        "sensitive": row.sensitive,
        "draft": {"version": draft.version, "content": draft.content}
        if draft
        else {"version": 0, "content": None},
        "talk": talk,
    }


def _talk(connection: sa.Connection, row: sa.Row) -> list[dict[str, Any]]:
    """A live conversation so far, its two sides as this person sees them."""
    table = schema.chat_turns
    query = sa.select(table).where(table.c.assignments_id == row.id)
    return [
        {
            "message": turn.message,
            "replies": [turn.replies[index] for index in row.shown_order],
        }
        for turn in connection.execute(query.order_by(table.c.number))
    ]


def progress(store: Store, person: int) -> dict[str, Any]:
    """How much a person has done, today and in all, and how fast.

    Returns:
      `today`, `total`: answers; `minutes`: active time today; `pace`: answers per
      active hour, None before the first.
    """
    table, assignments = schema.answers, schema.assignments
    now = store.clock()
    local = time.localtime(now)
    midnight = now - (local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec)
    query = (
        sa.select(
            sa.func.count(),
            sa.func.sum(sa.case((table.c.submitted_at >= midnight, 1), else_=0)),
            sa.func.sum(
                sa.case((table.c.submitted_at >= midnight, table.c.seconds), else_=0.0)
            ),
        )
        .join(assignments, assignments.c.id == table.c.assignments_id)
        .where(assignments.c.people_id == person, table.c.withdrawn_event.is_(None))
    )
    with store.read() as connection:
        total, today, seconds = connection.execute(query).one()
    seconds = seconds or 0.0
    return {
        "today": int(today or 0),
        "total": total,
        "minutes": round(seconds / 60, 1),
        "pace": round(3600 * today / seconds, 1) if seconds else None,
    }


class Places:
    """How many free places there are for anybody, counted every few seconds at most."""

    EVERY = 5.0  # seconds

    def __init__(self, store: Store):
        self.store = store
        self._found, self._until = 0, 0.0

    def open(self) -> int:
        """Free places in batches that are open."""
        now = time.monotonic()
        if now >= self._until:
            slots, batches = schema.slots, schema.batches
            query = (
                sa.select(sa.func.count())
                .select_from(slots)
                .join(batches, batches.c.id == slots.c.batches_id)
                .where(slots.c.assignment.is_(None), batches.c.closed.is_(False))
            )
            self._until = now + self.EVERY
            with self.store.read() as connection:
                self._found = connection.scalar(query)
        return self._found


def own_answers(store: Store, person: int, count: int = 30) -> list[dict[str, Any]]:
    """The person's last answers and skips, newest first, and which can be undone."""
    table, items = schema.assignments, schema.items
    query = (
        sa.select(table.c.id, table.c.state, table.c.closed_at, items.c.record)
        .join(items, items.c.id == table.c.items_id)
        .where(table.c.people_id == person, table.c.closed_at.is_not(None))
        .where(table.c.state.in_(["done", "extra", "skipped"]))
        .order_by(table.c.closed_at.desc(), table.c.id.desc())
        .limit(count)
    )
    with store.read() as connection:
        rows = connection.execute(query).all()
    return [
        {
            "id": row.id,
            "state": "skipped" if row.state == "skipped" else "sent",
            "at": row.closed_at,
            "prompt": row.record.get("prompt", "")[:160],
            "undoable": store.clock() - row.closed_at <= UNDO_SECONDS,
        }
        for row in rows
    ]

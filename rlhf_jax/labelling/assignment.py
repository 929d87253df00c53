"""Who gets what next, so that every item gets exactly as many answers as asked for.

An item has one slot for each answer it needs. A claim takes a free slot, a skip or an
expired lease gives it back, a submission keeps it; all inside the store's single
writer, so there is nothing to race for. Gold questions and repeats are claimed in the
same way and look the same, but hold no slot.
"""

from typing import Any

import sqlalchemy as sa

from rlhf_jax.labelling import schema
from rlhf_jax.labelling.refusals import Forbidden, Missing
from rlhf_jax.labelling.showing import JUDGED, dice, distinct, order_for
from rlhf_jax.labelling.store import Store

__all__ = ["claim", "expire", "own_assignment", "take_slot"]

# a repeat comes when at least so many other tasks lie between
REPEAT_GAP = 10

# asked with nearly every request, so it is put together once
_OWN = (
    sa.select(
        schema.assignments,
        schema.items.c.record,
        schema.items.c.sensitive,
        schema.batches.c.lease_seconds,
        schema.batches.c.settings,
    )
    .join(schema.items, schema.items.c.id == schema.assignments.c.items_id)
    .join(schema.batches, schema.batches.c.id == schema.items.c.batches_id)
    .where(schema.assignments.c.id == sa.bindparam("number"))
    .where(schema.assignments.c.people_id == sa.bindparam("person"))
)


def claim(store: Store, person: int) -> int | None:
    """The assignment that a person works on next; None where there is no work.

    An open one comes back until it is answered, skipped or expired.

    Raises:
      Forbidden: the person is paused.
    """
    with store.write() as connection:
        who = _person(connection, person)
        expire(store, connection)
        found = _open(connection, person)
        if found is None:
            found = _reopened(store, connection, who)
        if found is None:
            found = _reserved(store, connection, who)
        if found is None and who.role == "labeler":
            for batch in _batches(connection, who):
                found = _from_batch(store, connection, who, batch)
                if found is not None:
                    break
        return found


def expire(store: Store, connection: sa.Connection) -> None:
    """Leases that have run out give their slots back."""
    table, slots = schema.assignments, schema.slots
    query = sa.select(table.c.id, table.c.items_id)
    late = (table.c.state == "open", table.c.leased_until < store.clock())
    for row in connection.execute(query.where(*late)).all():
        change = table.update().where(table.c.id == row.id)
        connection.execute(change.values(state="expired"))
        free = slots.update().where(slots.c.assignment == row.id)
        connection.execute(free.values(assignment=None))
        store.event(connection, "expire", assignment=row.id, item=row.items_id)


def own_assignment(connection: sa.Connection, person: int, number: int) -> sa.Row:
    """An assignment of the person's own, with its batch's fields.

    Raises:
      Missing: there is none of this number, or it is somebody else's.
    """
    values = {"number": number, "person": person}
    row = connection.execute(_OWN, values).first()
    if row is None:
        raise Missing("There is no such task of yours.")
    return row


def take_slot(connection: sa.Connection, item: int, assignment: int) -> bool:
    """Gives a free slot of the item to an assignment; False where there is none."""
    slots = schema.slots
    query = sa.select(slots.c.id).where(
        slots.c.items_id == item,
        slots.c.assignment.is_(None),
        slots.c.reserved_for.is_(None),
    )
    slot = connection.scalar(query.order_by(slots.c.number).limit(1))
    if slot is None:
        return False
    change = slots.update().where(slots.c.id == slot)
    connection.execute(change.values(assignment=assignment))
    return True


def _person(connection: sa.Connection, person: int) -> sa.Row:
    query = sa.select(schema.people).where(schema.people.c.id == person)
    row = connection.execute(query).one()
    if row.state in {"paused", "removed"}:
        raise Forbidden("Your work is paused. Please ask the researchers.")
    return row


def _open(connection: sa.Connection, person: int) -> int | None:
    table = schema.assignments
    query = sa.select(table.c.id).where(
        table.c.people_id == person, table.c.state == "open"
    )
    newest = query.order_by(table.c.leased_until.desc(), table.c.id)
    return connection.scalar(newest.limit(1))


def _batches(connection: sa.Connection, who: sa.Row) -> list[sa.Row]:
    """Open batches for this person, the most urgent first."""
    table = schema.batches
    purpose = "qualification" if who.state == "qualifying" else "work"
    query = sa.select(table).where(
        table.c.closed.is_(False),
        table.c.purpose == purpose,
        sa.or_(table.c.people.is_(None), table.c.people == who.group),
    )
    return list(connection.execute(query.order_by(table.c.priority, table.c.id)))


def _reopened(store: Store, connection: sa.Connection, who: sa.Row) -> int | None:
    """What the person had begun before its lease expired, if a slot is still free."""
    table, items, batches = schema.assignments, schema.items, schema.batches
    query = (
        sa.select(table.c.id, table.c.items_id, table.c.purpose)
        .join(items, items.c.id == table.c.items_id)
        .join(batches, batches.c.id == items.c.batches_id)
        .where(table.c.people_id == who.id, table.c.state == "expired")
        .where(batches.c.closed.is_(False))
        .order_by(table.c.id)
    )
    for row in connection.execute(query).all():
        slotted = row.purpose in {"work", "adjudication"}
        if slotted and not take_slot(connection, row.items_id, row.id):
            continue
        lease = _lease(store, connection, row.items_id)
        change = table.update().where(table.c.id == row.id)
        connection.execute(change.values(state="open", leased_until=lease))
        store.event(
            connection, "claim", actor=who.id, assignment=row.id, item=row.items_id
        )
        return row.id
    return None


def _reserved(store: Store, connection: sa.Connection, who: sa.Row) -> int | None:
    """A slot that was put into this person's own queue."""
    slots = schema.slots
    query = sa.select(slots.c.id, slots.c.items_id).where(
        slots.c.reserved_for == who.id,
        slots.c.assignment.is_(None),
        _not_met(slots.c.items_id, who.id),
    )
    row = connection.execute(query.order_by(slots.c.id).limit(1)).first()
    if row is None:
        return None
    return _assign(store, connection, who, row.items_id, "adjudication", slot=row.id)


def _from_batch(
    store: Store, connection: sa.Connection, who: sa.Row, batch: sa.Row
) -> int | None:
    """The next task of a batch: work, or in its place gold or a repeat."""
    if batch.purpose == "qualification":
        item = _unseen_gold(connection, who, batch)
        if item is None:
            return None
        return _assign(store, connection, who, item, "qualification")
    slot = _free_slot(connection, who, batch)
    if slot is None:
        return None
    seed = store.seed(connection)
    count = _met(connection, who, batch)
    drawn = dice(seed, "kind", batch.id, who.id, count)
    if drawn < batch.gold_rate:
        item = _unseen_gold(connection, who, batch)
        if item is not None:
            return _assign(store, connection, who, item, "gold")
    elif drawn < batch.gold_rate + batch.repeat_rate:
        item = _repeatable(connection, who, batch, dice(seed, who.id, count))
        if item is not None:
            return _assign(store, connection, who, item, "repeat", repetition=1)
    return _assign(store, connection, who, slot.items_id, "work", slot=slot.id)


def _free_slot(connection: sa.Connection, who: sa.Row, batch: sa.Row) -> sa.Row | None:
    slots, items = schema.slots, schema.items
    query = sa.select(slots.c.id, slots.c.items_id).where(
        slots.c.batches_id == batch.id,
        slots.c.assignment.is_(None),
        slots.c.reserved_for.is_(None),
        _not_met(slots.c.items_id, who.id),
    )
    if not who.sees_sensitive:
        calm = sa.select(items.c.id).where(
            items.c.id == slots.c.items_id, items.c.sensitive.is_(False)
        )
        query = query.where(calm.exists())
    query = query.order_by(slots.c.position, slots.c.number).limit(1)
    return connection.execute(query).first()


def _unseen_gold(connection: sa.Connection, who: sa.Row, batch: sa.Row) -> int | None:
    items = schema.items
    query = sa.select(items.c.id).where(
        items.c.batches_id == batch.id, _not_met(items.c.id, who.id)
    )
    if batch.purpose == "work":
        query = query.where(items.c.gold.is_not(None))
    if not who.sees_sensitive:
        query = query.where(items.c.sensitive.is_(False))
    return connection.scalar(query.order_by(items.c.position).limit(1))


def _repeatable(
    connection: sa.Connection, who: sa.Row, batch: sa.Row, drawn: float
) -> int | None:
    """One of the person's own answered items, asked once and some time ago."""
    table, items = schema.assignments, schema.items
    query = (
        sa.select(table.c.items_id, table.c.purpose, table.c.state)
        .join(items, items.c.id == table.c.items_id)
        .where(items.c.batches_id == batch.id, table.c.people_id == who.id)
        .order_by(table.c.id)
    )
    rows = connection.execute(query).all()
    repeated = {row.items_id for row in rows if row.purpose == "repeat"}
    old = [
        row.items_id
        for row in rows[: max(0, len(rows) - REPEAT_GAP)]
        if (row.purpose, row.state) == ("work", "done") and row.items_id not in repeated
    ]
    return old[int(drawn * len(old))] if old else None


def _met(connection: sa.Connection, who: sa.Row, batch: sa.Row) -> int:
    """How many tasks of the batch the person has had."""
    table, items = schema.assignments, schema.items
    query = (
        sa.select(sa.func.count())
        .select_from(table)
        .join(items, items.c.id == table.c.items_id)
        .where(items.c.batches_id == batch.id, table.c.people_id == who.id)
    )
    return connection.scalar(query)


def _not_met(item: Any, person: int) -> Any:
    table = schema.assignments
    query = sa.select(table.c.id).where(
        table.c.items_id == item, table.c.people_id == person
    )
    return ~query.exists()


def _lease(store: Store, connection: sa.Connection, item: int) -> float:
    items, batches = schema.items, schema.batches
    query = sa.select(batches.c.lease_seconds).join(items)
    return store.clock() + connection.scalar(query.where(items.c.id == item))


def _assign(
    store: Store,
    connection: sa.Connection,
    who: sa.Row,
    item: int,
    purpose: str,
    *,
    repetition: int = 0,
    slot: int | None = None,
) -> int:
    """Writes the assignment, with the order in which this person will see the texts."""
    items, batches = schema.items, schema.batches
    definitions = schema.definitions
    query = (
        sa.select(
            items.c.record,
            batches.c.lease_seconds,
            batches.c.definitions_id,
            batches.c.guidelines_id,
            definitions.c.document,
        )
        .join(batches, batches.c.id == items.c.batches_id)
        .join(definitions, definitions.c.id == batches.c.definitions_id)
        .where(items.c.id == item)
    )
    row = connection.execute(query).one()
    kind = row.document["kind"]
    count = 2 if kind == "chat" else 0
    if kind in JUDGED:
        count = len(distinct(row.record)[0])
    seed = store.seed(connection)
    now = store.clock()
    values = {
        "items_id": item,
        "people_id": who.id,
        "repetition": repetition,
        "purpose": purpose,
        "state": "open",
        "shown_order": order_for(seed, item, who.id, repetition, count),
        "claimed_at": now,
        "leased_until": now + row.lease_seconds,
        "definitions_id": row.definitions_id,
        "guidelines_id": row.guidelines_id,
    }
    made = connection.execute(schema.assignments.insert().values(**values))
    (number,) = made.inserted_primary_key
    if slot is not None:
        change = schema.slots.update().where(schema.slots.c.id == slot)
        connection.execute(change.values(assignment=number))
    store.event(connection, "claim", actor=who.id, assignment=number, item=item)
    return number

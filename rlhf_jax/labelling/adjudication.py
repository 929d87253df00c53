"""Items on which people disagree most, and who is to settle them."""

import itertools
from typing import Any

import sqlalchemy as sa

from rlhf_jax.labelling import schema
from rlhf_jax.labelling.exports import answers_as_of
from rlhf_jax.labelling.refusals import Conflict, Missing
from rlhf_jax.labelling.statistics import alike, rank_by_text
from rlhf_jax.labelling.store import Store

__all__ = ["disagreements", "reserve"]


def disagreements(store: Store, count: int = 50) -> list[dict[str, Any]]:
    """Items with several answers that nobody settles yet, lowest agreement first.

    Returns:
      `item`, `key`, `batch`, `prompt`, `answers`, `agreement` in [0, 1].
    """
    with store.read() as connection:
        rows = answers_as_of(connection, store.last_event(connection))
        slots = schema.slots
        query = sa.select(slots.c.items_id).where(slots.c.reserved_for.is_not(None))
        settled = set(connection.scalars(query))
    by_item: dict[int, list[sa.Row]] = {}
    for row in rows:
        if row.purpose == "work" and row.item not in settled:
            by_item.setdefault(row.item, []).append(row)
    found = []
    for item, answers in by_item.items():
        ranks = [r for r in map(rank_by_text, answers) if r is not None]
        same = [v for a, b in itertools.combinations(ranks, 2) for v in alike(a, b)]
        if same:
            found.append(
                {
                    "item": item,
                    "key": answers[0].key,
                    "batch": answers[0].batch,
                    "prompt": answers[0].record["prompt"][:200],
                    "answers": len(answers),
                    "agreement": sum(same) / len(same),
                }
            )
    return sorted(found, key=lambda row: (row["agreement"], row["item"]))[:count]


def reserve(store: Store, item: int, person: int, *, actor: int | None = None) -> None:
    """Puts an item into a person's own queue, as one answer more than its overlap.

    Raises:
      Missing: no such item or person.
      Conflict: the person has had it.
    """
    slots, items, assignments = schema.slots, schema.items, schema.assignments
    with store.write() as connection:
        row = connection.execute(sa.select(items).where(items.c.id == item)).first()
        people = sa.select(schema.people.c.id).where(schema.people.c.id == person)
        if row is None or connection.scalar(people) is None:
            raise Missing("There is no such item or person.")
        met = sa.select(assignments.c.id).where(
            assignments.c.items_id == item, assignments.c.people_id == person
        )
        mine = sa.select(slots.c.id).where(
            slots.c.items_id == item, slots.c.reserved_for == person
        )
        if connection.scalar(met) or connection.scalar(mine):
            raise Conflict("This person has had this item.")
        last = sa.select(sa.func.max(slots.c.number)).where(slots.c.items_id == item)
        number = connection.scalar(last)
        made = slots.insert().values(
            items_id=item,
            batches_id=row.batches_id,
            position=row.position,
            number=0 if number is None else number + 1,
            reserved_for=person,
        )
        connection.execute(made)
        store.event(connection, "reserve", actor=actor, item=item, person=person)

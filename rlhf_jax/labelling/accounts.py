"""Who was asked and what it cost; never about one person."""

import collections
import statistics
from math import comb
from typing import Any

import sqlalchemy as sa

from rlhf_jax.labelling import schema
from rlhf_jax.labelling.exports import answers_as_of
from rlhf_jax.labelling.showing import distinct
from rlhf_jax.labelling.store import Store

__all__ = ["FEWEST", "costs", "who_was_asked"]

# fewer answers to a question of the questionnaire are not shown
FEWEST = 5


def who_was_asked(store: Store) -> dict[str, Any]:
    """Counts of persons by group and state, and shares of what they told.

    Returns:
      `people`: (group, state) -> count; `answers`: group -> count; `asked`: persons;
      `demographics`: question -> {option: share}, or None where fewer than `FEWEST`
      answered it.
    """
    people = schema.people
    with store.read() as connection:
        query = sa.select(people.c.group, people.c.state, sa.func.count())
        query = query.where(people.c.role == "labeler")
        grouped = query.group_by(people.c.group, people.c.state)
        counts = [tuple(row) for row in connection.execute(grouped)]
        told = connection.scalars(sa.select(schema.demographics.c.content)).all()
        rows = answers_as_of(connection, store.last_event(connection))
    answers = collections.Counter(row.group for row in rows)
    return {
        "people": sorted(counts, key=str),
        "answers": dict(answers),
        "asked": sum(count for *_, count in counts),
        "told": len(told),
        "demographics": _shares(told),
    }


def _shares(told: list[dict[str, str]]) -> dict[str, dict[str, float] | None]:
    questions = sorted({name for content in told for name in content})
    found: dict[str, dict[str, float] | None] = {}
    for name in questions:
        values = collections.Counter(c[name] for c in told if name in c)
        total = values.total()
        found[name] = (
            {option: n / total for option, n in values.most_common()}
            if total >= FEWEST
            else None
        )
    return found


def costs(store: Store) -> list[dict[str, Any]]:
    """Per batch: answers, active hours, price, and both per comparison.

    A ranking of K different responses is C(K, 2) comparisons.
    """
    batches = schema.batches
    with store.read() as connection:
        rows = answers_as_of(connection, store.last_event(connection))
        prices = {
            row.name: row.price
            for row in connection.execute(sa.select(batches.c.name, batches.c.price))
        }
    found = []
    for name, price in prices.items():
        mine = [row for row in rows if row.batch == name]
        if not mine:
            continue
        seconds = [row.seconds for row in mine]
        pairs = sum(
            comb(len(distinct(row.record)[0]), 2)
            for row in mine
            if row.document["kind"] in {"ranking", "pairwise"}
        )
        paid = None if price is None else price * len(mine)
        found.append(
            {
                "batch": name,
                "answers": len(mine),
                "hours": sum(seconds) / 3600,
                "median": statistics.median(seconds),
                "comparisons": pairs,
                "seconds_each": sum(seconds) / pairs if pairs else None,
                "price": paid,
                "price_each": paid / pairs if pairs and paid is not None else None,
            }
        )
    return found

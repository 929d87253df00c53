"""The researcher's table: who agrees with whom, how fast, how steadily.

A pair of responses that two answers both order, and order alike, is an agreement; ties
are left out, as in `feedback.pairwise_agreement`. Pairs of one item are not
independent, so intervals are bootstrapped over items.
"""

import collections
import itertools
import statistics as numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from rlhf_jax.labelling import schema
from rlhf_jax.labelling.exports import answers_as_of
from rlhf_jax.labelling.store import Store

__all__ = ["live_table", "rank_by_text"]

# text -> rank of one answer; 1 is best
Ranks = Mapping[int, int]


def live_table(store: Store) -> dict[str, Any]:
    """All numbers of the researcher's first page, as of the newest event.

    Returns:
      `as_of`; `people`, `pairs`, `groups`, `slots` (win rate by place on the screen),
      `batches`: lists of dicts. Rates are `Interval.document()` or None where nothing
      was counted.
    """
    with store.read() as connection:
        as_of = store.last_event(connection)
        rows = answers_as_of(connection, as_of)
        people = connection.execute(
            sa.select(schema.people).order_by(schema.people.c.id)
        ).all()
        skips = _skips(connection)
        batches = _batches(connection)
    work = [r for r in rows if r.purpose == "work" and not r.extra]
    by_person, by_pair, by_group = _agreements(work)
    return {
        "as_of": as_of,
        "people": [
            _person_row(
                who,
                [r for r in rows if r.person == who.id],
                by_person[who.id],
                skips.get(who.id, 0),
            )
            for who in people
            if who.role == "labeler"
        ],
        "pairs": [
            {"one": one, "other": other, "agreement": rate(found)}
            for (one, other), found in sorted(by_pair.items())
        ],
        "groups": [
            {"group": group, "agreement": rate(found), "alpha": _alpha(work, group)}
            for group, found in sorted(by_group.items())
        ],
        "slots": _slot_rates(work),
        "batches": batches,
    }


def rate(found: list[tuple[int, float]]) -> dict[str, Any] | None:
    """The mean of (item, 0 or 1) values with its interval over items."""
    from rlhf_jax.evaluation.statistics.intervals import rate_interval

    if not found:
        return None
    values = [value for _, value in found]
    clusters = [item for item, _ in found]
    return rate_interval(values, clusters, num_resamples=400).document()


def rank_by_text(row: sa.Row) -> dict[int, int] | None:
    """What an answer says of the order of the item's texts; None where it says none."""
    kind, content = row.document["kind"], row.content
    if kind == "ranking":
        ranks = [slot["rank"] for slot in content["slots"]]
    elif kind in {"pairwise", "chat"}:
        choice = content["choice"]
        ranks = {"first": [1, 2], "second": [2, 1]}.get(choice, [1, 1])
    else:
        return None
    return dict(zip(row.shown_order, ranks, strict=True))


def alike(one: Ranks, other: Ranks) -> list[float]:
    """1 or 0 for each pair that both order."""
    return [
        float((one[a] < one[b]) == (other[a] < other[b]))
        for a, b in itertools.combinations(sorted(one.keys() & other.keys()), 2)
        if one[a] != one[b] and other[a] != other[b]
    ]


def _agreements(work: Iterable[sa.Row]) -> tuple[Any, Any, Any]:
    """(item, alike) of every pair, by person, by pair of persons, by group."""
    by_person, by_pair, by_group = (collections.defaultdict(list) for _ in range(3))
    for item, rows in _grouped(work, lambda row: row.item).items():
        ranked = [(row, rank_by_text(row)) for row in rows]
        for (a, one), (b, other) in itertools.combinations(ranked, 2):
            if one is None or other is None or a.person == b.person:
                continue
            found = [(item, value) for value in alike(one, other)]
            by_person[a.person] += found
            by_person[b.person] += found
            by_pair[tuple(sorted((a.labeler, b.labeler)))] += found
            if a.group == b.group:
                by_group[a.group or "researchers"] += found
    return by_person, by_pair, by_group


def _person_row(
    who: sa.Row, rows: list[sa.Row], agreed: list[tuple[int, float]], skipped: int
) -> dict[str, Any]:
    work = [row for row in rows if row.purpose in {"work", "adjudication"}]
    seconds = [row.seconds for row in work]
    return {
        "id": who.id,
        "name": who.name,
        "group": who.group,
        "state": who.state,
        "answers": len(work),
        "skipped": skipped,
        "seconds": numbers.median(seconds) if seconds else None,
        "last": max((row.submitted_at for row in rows), default=None),
        "agreement": rate(agreed),
        "gold": rate(_against_gold(rows)),
        "ties": rate(_ties(work)),
        "first_slot": rate(_first_slot(work)),
        "likert": rate(_likert(work)),
        "self": rate(_with_oneself(rows)),
    }


def _against_gold(rows: Iterable[sa.Row]) -> list[tuple[int, float]]:
    """Pairs that the researchers order too, and flags that they gave."""
    found = []
    for row in rows:
        if row.gold is None or row.purpose not in {"gold", "qualification"}:
            continue
        found += [(row.item, value) for value in gold_pairs(row)]
        if row.document["kind"] == "flags":
            found += [(row.item, value) for value in gold_flags(row)]
    return found


def gold_pairs(row: sa.Row) -> list[float]:
    """1 or 0 for each pair that the answer and the researchers both order."""
    from rlhf_jax.labelling.showing import distinct

    mine, ranks = rank_by_text(row), (row.gold or {}).get("ranks")
    if mine is None or not ranks:
        return []
    which = distinct(row.record)[1]
    return alike(mine, dict(zip(which, ranks, strict=True)))


def gold_flags(row: sa.Row) -> list[float]:
    """1 or 0 for each yes/no answer that the researchers gave too."""
    from rlhf_jax.labelling.showing import distinct

    flags = (row.gold or {}).get("flags")
    if not flags or "slots" not in row.content:
        return []
    which = distinct(row.record)[1]
    theirs = dict(zip(which, flags, strict=True))
    return [
        float(slot["fields"][name] == value)
        for slot, text in zip(row.content["slots"], row.shown_order, strict=True)
        for name, value in theirs[text].items()
        if name in slot["fields"]
    ]


def _ties(rows: Iterable[sa.Row]) -> list[tuple[int, float]]:
    return [
        (row.item, float(a == b))
        for row in rows
        if (ranks := rank_by_text(row)) is not None
        for a, b in itertools.combinations(ranks.values(), 2)
    ]


def _slot_pairs(row: sa.Row) -> Iterable[tuple[int, int, bool]]:
    """(slot, later slot, whether the earlier one wins) of untied pairs."""
    ranks = rank_by_text(row)
    if ranks is not None:
        by_slot = [ranks[text] for text in row.shown_order]
        for i, j in itertools.combinations(range(len(by_slot)), 2):
            if by_slot[i] != by_slot[j]:
                yield i, j, by_slot[i] < by_slot[j]


def _first_slot(rows: Iterable[sa.Row]) -> list[tuple[int, float]]:
    """How often what was shown first wins its pairs; 0.5 without a bias."""
    return [
        (row.item, float(wins)) for row in rows for i, _, wins in _slot_pairs(row)
        if i == 0
    ]  # fmt: skip


def _slot_rates(rows: Iterable[sa.Row]) -> list[dict[str, Any]]:
    found = collections.defaultdict(list)
    for row in rows:
        for i, j, wins in _slot_pairs(row):
            found[i].append((row.item, float(wins)))
            found[j].append((row.item, float(not wins)))
    return [{"slot": i + 1, "wins": rate(found[i])} for i in sorted(found)]


def _likert(rows: Iterable[sa.Row]) -> list[tuple[int, float]]:
    """Pairs that ranks and Likert scores both order, and whether alike."""
    found = []
    for row in rows:
        slots = row.content.get("slots", [])
        scores = [slot["fields"].get("likert") for slot in slots]
        if row.document["kind"] != "ranking" or None in scores:
            continue
        ranks = dict(enumerate(slot["rank"] for slot in slots))
        minus = {slot: -score for slot, score in enumerate(scores)}
        found += [(row.item, value) for value in alike(ranks, minus)]
    return found


def _with_oneself(rows: Iterable[sa.Row]) -> list[tuple[int, float]]:
    """Pairs of items that were asked twice."""
    found = []
    for item, both in _grouped(rows, lambda row: row.item).items():
        ranked = [rank_by_text(row) for row in both]
        if len(ranked) == 2 and None not in ranked:
            found += [(item, value) for value in alike(*ranked)]
    return found


def _alpha(work: Iterable[sa.Row], group: str) -> float | None:
    """Krippendorff's alpha of a group's Likert scores, ordinal."""
    from rlhf_jax.feedback import krippendorff_alpha

    scores: dict[int, dict[tuple[int, int], float]] = collections.defaultdict(dict)
    for row in work:
        if (row.group or "researchers") != group:
            continue
        slots = row.content.get("slots", [])
        for slot, text in zip(slots, row.shown_order, strict=False):
            value = slot["fields"].get("likert")
            if value is not None:
                scores[row.person][row.item, text] = value
    columns = sorted({key for found in scores.values() for key in found})
    if not columns:
        return None
    table = [[found.get(key) for key in columns] for found in scores.values()]
    alpha = krippendorff_alpha(table)
    return None if alpha != alpha else alpha


def _skips(connection: sa.Connection) -> dict[int, int]:
    table = schema.assignments
    query = sa.select(table.c.people_id, sa.func.count()).where(
        table.c.state == "skipped"
    )
    return dict(connection.execute(query.group_by(table.c.people_id)).all())


def _batches(connection: sa.Connection) -> list[dict[str, Any]]:
    table, slots, assignments = schema.batches, schema.slots, schema.assignments
    query = (
        sa.select(
            slots.c.batches_id,
            sa.func.count(),
            sa.func.sum(sa.case((assignments.c.state == "done", 1), else_=0)),
            sa.func.sum(sa.case((assignments.c.state == "open", 1), else_=0)),
        )
        .outerjoin(assignments, assignments.c.id == slots.c.assignment)
        .group_by(slots.c.batches_id)
    )
    counts = {row[0]: row[1:] for row in connection.execute(query)}
    found = []
    for batch in connection.execute(sa.select(table).order_by(table.c.id)):
        wanted, done, held = counts.get(batch.id, (0, 0, 0))
        found.append(
            {
                "id": batch.id,
                "name": batch.name,
                "purpose": batch.purpose,
                "people": batch.people or "both",
                "overlap": batch.overlap,
                "closed": batch.closed,
                "wanted": wanted,
                "done": int(done or 0),
                "held": int(held or 0),
            }
        )
    return found


def _grouped(rows: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found

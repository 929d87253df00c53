"""Batches, persons and answers for the tests of the labelling server."""

from rlhf_jax.data.records import Ranking
from rlhf_jax.labelling.access import add_person
from rlhf_jax.labelling.imports import Batch, CandidateSet, add_batch


def sets(count: int, k: int = 3, name: str = "set", **fields) -> list[CandidateSet]:
    """Sets of k different responses."""
    return [
        CandidateSet(
            id=f"{name}-{n}",
            prompt=f"Prompt {n}?",
            responses=[f"{name} {n}, response {i}" for i in range(k)],
            **fields,
        )
        for n in range(count)
    ]


def gold_rankings(count: int, k: int = 3) -> list[Ranking]:
    return [
        Ranking(
            id=f"gold-{n}",
            prompt=f"Gold prompt {n}?",
            responses=[f"gold {n}, response {i}" for i in range(k)],
            ranks=list(range(1, k + 1)),
        )
        for n in range(count)
    ]


def batch_of(store, records, *, gold=(), **settings) -> int:
    """A batch without gold and repeats, unless asked for."""
    options = {"gold_rate": 0.0, "repeat_rate": 0.0, "name": "b", **settings}
    return add_batch(store, Batch(**options), records, gold=gold)


def person(store, name="ann", **options) -> int:
    return add_person(store, name, **options)[0]


def ranked(count: int, ranks=None, likert: int = 4) -> dict:
    """A complete answer of the ranking page."""
    ranks = list(range(1, count + 1)) if ranks is None else ranks
    return {"slots": [{"rank": rank, "fields": {"likert": likert}} for rank in ranks]}


def rows_of(store, query):
    with store.read() as connection:
        return connection.execute(query).all()

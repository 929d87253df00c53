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


def server(store, **options):
    """The application without its rates, which tests would run into."""
    from rlhf_jax.labelling.web.app import create_app

    fast = (10_000, 10_000)
    return create_app(store, **{"login_rate": fast, "request_rate": fast, **options})


def client_of(app):
    """A browser that is not signed in and follows nothing by itself."""
    from starlette.testclient import TestClient

    return TestClient(app, follow_redirects=False)


def signed_in(app, token: str):
    """A browser with a session; `client.csrf` is what its pages hold."""
    client = client_of(app)
    assert client.post("/login", data={"token": token}).status_code == 303
    page = client.get("/settings").text
    client.csrf = page.split('name="csrf" content="')[1].split('"')[0]
    client.headers["x-csrf-token"] = client.csrf
    return client

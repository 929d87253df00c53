"""The researcher's pages; what they change is in `research_forms`."""

import pathlib
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from rlhf_jax.labelling import schema
from rlhf_jax.labelling.accounts import FEWEST, costs, who_was_asked
from rlhf_jax.labelling.adjudication import disagreements
from rlhf_jax.labelling.exports import FORMATS, export
from rlhf_jax.labelling.imports import Batch
from rlhf_jax.labelling.screening import CUT_OFFS, screening_table, unmarked
from rlhf_jax.labelling.statistics import live_table
from rlhf_jax.labelling.store import Store
from rlhf_jax.labelling.tasks import TASKS
from rlhf_jax.labelling.web.sessions import researcher, store_of

__all__ = ["router"]

router = APIRouter()


class Tables:
    """The live table, worked out once for each state of the database."""

    def __init__(self, store: Store):
        self.store = store
        self._lock = threading.Lock()
        self._found: dict[str, Any] = {"as_of": None}

    def newest(self) -> dict[str, Any]:
        """The table as of now; whoever asks meanwhile waits for the same one."""
        with self._lock:
            with self.store.read() as connection:
                newest = self.store.last_event(connection)
            if self._found["as_of"] != newest:
                self._found = live_table(self.store)
            return self._found


@router.get("/research")
def overview(request: Request) -> Response:
    """Batches, persons and their agreement."""
    person = researcher(request)
    table = request.app.state.tables.newest()
    return request.app.state.page(request, "overview.html", person, table=table)


@router.get("/api/research/table")
def table(request: Request) -> dict[str, Any]:
    """The same as JSON, for programs and for the page's own refreshing."""
    researcher(request)
    return request.app.state.tables.newest()


@router.get("/research/people")
def people(request: Request) -> Response:
    """Who takes part; here persons are invited, paused and removed."""
    return people_page(request, researcher(request))


def people_page(request: Request, person: Any, **more: Any) -> Response:
    """The page of persons, with a new token to be shown once, or what was done."""
    query = sa.select(schema.people).order_by(schema.people.c.id)
    with store_of(request).read() as connection:
        rows = connection.execute(query).all()
    values = {"token": None, "named": None, "done": None, **more}
    return request.app.state.page(request, "people.html", person, rows=rows, **values)


@router.get("/research/batches")
def batches(request: Request) -> Response:
    """What is asked; here files are imported."""
    person = researcher(request)
    return request.app.state.page(
        request,
        "batches.html",
        person,
        batches=request.app.state.tables.newest()["batches"],
        tasks=TASKS,
        defaults=Batch(name=""),
    )


@router.get("/research/screening")
def screening(request: Request) -> Response:
    """The qualification round, and demonstrations to be marked."""
    person, store = researcher(request), store_of(request)
    return request.app.state.page(
        request,
        "screening.html",
        person,
        rows=screening_table(store),
        marks=unmarked(store, person.id)[:10],
        cut_offs=CUT_OFFS,
    )


@router.get("/research/adjudication")
def adjudication(request: Request) -> Response:
    """Where people disagree most."""
    person, store = researcher(request), store_of(request)
    rows = disagreements(store)
    return request.app.state.page(request, "adjudication.html", person, rows=rows)


@router.get("/research/report")
def report(request: Request) -> Response:
    """Who was asked, what it cost, and the exports."""
    person, store = researcher(request), store_of(request)
    table = request.app.state.tables.newest()
    return request.app.state.page(
        request,
        "report.html",
        person,
        asked=who_was_asked(store),
        costs=costs(store),
        formats=FORMATS,
        batches=[row["name"] for row in table["batches"]],
        as_of=table["as_of"],
        fewest=FEWEST,
    )


@router.get("/research/export")
def download(
    request: Request,
    form: str = "jsonl",
    as_of: int | None = None,
    batch: str | None = None,
    also: str = "",
) -> Response:
    """A frozen export as a file."""
    researcher(request)
    purposes = {"work", "adjudication", *filter(None, also.split(","))}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "labels"
        made = export(
            store_of(request),
            path,
            form=form,
            as_of=as_of,
            batch=batch or None,
            purposes=purposes,
            extras="extra" in purposes,
        )
        file = path.open("rb")
    ending = "csv" if form == "csv" else "jsonl"
    headers = {
        "Content-Disposition": f'attachment; filename="labels-{made.as_of}.{ending}"',
        "X-As-Of": str(made.as_of),
        "X-Left-Out": "; ".join(f"{n} {why}" for why, n in made.left_out.items()),
    }
    return StreamingResponse(
        _pieces(file), media_type="application/octet-stream", headers=headers
    )


def _pieces(file: Any) -> Iterator[bytes]:
    with file:
        while piece := file.read(1 << 16):
            yield piece


@router.get("/research/audit")
def audit(request: Request, before: int | None = None) -> Response:
    """The log of events, and whether its chain holds."""
    person, store = researcher(request), store_of(request)
    events, people = schema.events, schema.people
    query = (
        sa.select(events, people.c.name)
        .outerjoin(people, people.c.id == events.c.actor)
        .order_by(events.c.seq.desc())
        .limit(100)
    )
    if before is not None:
        query = query.where(events.c.seq < before)
    with store.read() as connection:
        rows = connection.execute(query).all()
    return request.app.state.page(
        request, "audit.html", person, rows=rows, problems=None
    )

"""What researchers change: persons, batches, marks, queues."""

import pathlib
import re
import tempfile
from typing import Annotated

from fastapi import APIRouter, File, Form, UploadFile
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from rlhf_jax.errors import InputError
from rlhf_jax.labelling import access, schema
from rlhf_jax.labelling.adjudication import reserve
from rlhf_jax.labelling.imports import Batch, add_batch, read_items
from rlhf_jax.labelling.refusals import Missing
from rlhf_jax.labelling.screening import add_mark
from rlhf_jax.labelling.web.research import people_page
from rlhf_jax.labelling.web.sessions import researcher, store_of

__all__ = ["router"]

router = APIRouter()
Text = Annotated[str, Form()]


@router.post("/research/people/invite")
def invite(
    request: Request,
    csrf: Text = "",
    name: Text = "",
    group: Text = "train",
    qualify: Text = "",
    role: Text = "labeler",
) -> Response:
    """A new person; their token is on the page that answers, and nowhere else."""
    who = researcher(request, csrf)
    _, token = access.add_person(
        store_of(request),
        name.strip(),
        role="researcher" if role == "researcher" else "labeler",
        group=group,
        qualify=qualify == "yes",
        actor=who.id,
    )
    return people_page(request, who, token=token, named=name.strip())


@router.post("/research/people/{number}/token")
def renew(request: Request, number: int, csrf: Text = "") -> Response:
    """A new token for a person who has lost theirs."""
    who = researcher(request, csrf)
    token = access.new_token(store_of(request), number, actor=who.id)
    return people_page(request, who, token=token, named=f"person {number}")


@router.post("/research/people/{number}/state")
def state(
    request: Request, number: int, csrf: Text = "", state: Text = "", group: Text = ""
) -> Response:
    """Pause, resume, admit."""
    who = researcher(request, csrf)
    access.change_state(
        store_of(request), number, state, group=group or None, actor=who.id
    )
    back = "/research/screening" if group else "/research/people"
    return RedirectResponse(back, 303)


@router.post("/research/people/{number}/remove")
def remove(
    request: Request, number: int, csrf: Text = "", how: Text = "pseudonymised"
) -> Response:
    """Takes a person out, on their request, and says what became of their data."""
    who = researcher(request, csrf)
    done = access.remove_person(store_of(request), number, how, actor=who.id)
    return people_page(request, who, done=done)


@router.post("/research/batches")
def new_batch(
    request: Request,
    file: Annotated[UploadFile, File()],
    gold: Annotated[UploadFile | None, File()] = None,
    csrf: Text = "",
    name: Text = "",
    task: Text = "ranking",
    guideline: Text = "training",
    people: Text = "train",
    purpose: Text = "work",
    overlap: Annotated[int, Form()] = 1,
    priority: Annotated[int, Form()] = 0,
    price: Text = "",
) -> Response:
    """A batch from an uploaded file of records."""
    who = researcher(request, csrf)
    batch = Batch(
        name=name.strip(),
        task=_shipped(task, Batch.task),
        guideline=_shipped(guideline, Batch.guideline),
        people=people,
        purpose=purpose,
        overlap=overlap,
        priority=priority,
        price=float(price) if price.replace(".", "", 1).isdecimal() else None,
    )
    records, answers = _records(file), _records(gold)
    if purpose == "qualification":
        records, answers = [], [*records, *answers]
    add_batch(store_of(request), batch, records, gold=answers, actor=who.id)
    return RedirectResponse("/research/batches", 303)


def _shipped(name: str, default: str) -> str:
    """A name without a path in it: a browser must not make the server read files."""
    return name if name.replace("_", "").isalnum() else default


def _records(upload: UploadFile | None) -> list:
    if upload is None or not upload.filename:
        return []
    ending = re.search(r"(\.[A-Za-z0-9]{1,8}){1,2}$", upload.filename)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"upload{ending[0] if ending else '.jsonl'}"
        path.write_bytes(upload.file.read())
        try:
            return read_items(path)
        except InputError as error:
            told = str(error).replace(f"{folder}/", "")
            raise InputError(told) from None


@router.post("/research/batches/{number}/closed")
def close(
    request: Request, number: int, csrf: Text = "", closed: Text = "yes"
) -> Response:
    """Closes a batch or opens it again; a closed one gives out no tasks."""
    who, store = researcher(request, csrf), store_of(request)
    table = schema.batches
    with store.write() as connection:
        change = table.update().where(table.c.id == number)
        if not connection.execute(change.values(closed=closed == "yes")).rowcount:
            raise Missing("There is no such batch.")
        store.event(connection, "close", actor=who.id, batch=number, closed=closed)
    return RedirectResponse("/research/batches", 303)


@router.post("/research/screening/{assignment}/mark")
def mark(
    request: Request,
    assignment: int,
    csrf: Text = "",
    mark: Annotated[int, Form()] = 0,
) -> Response:
    """A mark, 1 to 7, for a demonstration."""
    who = researcher(request, csrf)
    add_mark(store_of(request), who.id, assignment, mark)
    return RedirectResponse("/research/screening", 303)


@router.post("/research/adjudication/{item}")
def settle(request: Request, item: int, csrf: Text = "", person: Text = "") -> Response:
    """Puts an item into somebody's own queue; into one's own without a name."""
    who = researcher(request, csrf)
    number = int(person) if person.isdecimal() else who.id
    reserve(store_of(request), item, number, actor=who.id)
    return RedirectResponse("/research/adjudication", 303)


@router.post("/research/audit/verify")
def verify(request: Request, csrf: Text = "") -> Response:
    """Reads the whole database and says whether it is what it was."""
    who = researcher(request, csrf)
    problems = store_of(request).verify()
    return request.app.state.page(
        request, "audit.html", who, rows=[], problems=problems
    )

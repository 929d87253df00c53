"""The labeler's side: sign in, get a task, draft, send, undo, skip."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from rlhf_jax.errors import InputError
from rlhf_jax.labelling import access, schema
from rlhf_jax.labelling.answering import save_draft, skip, submit, undo
from rlhf_jax.labelling.assignment import claim
from rlhf_jax.labelling.guidelines import blocks
from rlhf_jax.labelling.refusals import Missing, Unknown
from rlhf_jax.labelling.screening import save_survey, survey_questions
from rlhf_jax.labelling.web.sessions import (
    COOKIE,
    labeler,
    same_origin,
    set_session,
    signed_in,
    store_of,
)
from rlhf_jax.labelling.web.views import own_answers, progress, task_view

__all__ = ["router"]

router = APIRouter()
Json = Annotated[dict[str, Any], Body()]


@router.get("/")
def home(request: Request) -> Response:
    """To the page that a person needs."""
    try:
        person = signed_in(request)
    except Unknown:
        return RedirectResponse("/login", 303)
    place = "/research" if person.role == "researcher" else "/work"
    return RedirectResponse(place, 303)


@router.get("/login")
def login_page(request: Request) -> Response:
    """Where a token is entered."""
    return request.app.state.page(request, "login.html", None, wrong=False)


@router.post("/login")
def login(request: Request, token: Annotated[str, Form()] = "") -> Response:
    """Token in, session out."""
    same_origin(request)
    try:
        secret, _ = access.log_in(store_of(request), token.strip())
    except Unknown:
        page = request.app.state.page
        return page(request, "login.html", None, status=401, wrong=True)
    response = RedirectResponse("/", 303)
    set_session(request, response, secret)
    return response


@router.post("/logout")
def logout(request: Request, csrf: Annotated[str, Form()] = "") -> Response:
    """Ends the session."""
    signed_in(request, csrf)
    access.log_out(store_of(request), request.cookies[COOKIE])
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE, path="/")
    response.headers["clear-site-data"] = '"storage"'
    return response


@router.get("/work")
def work(request: Request) -> Response:
    """The page on which tasks appear."""
    return request.app.state.page(request, "work.html", labeler(request))


@router.get("/mine")
def mine(request: Request) -> Response:
    """One's own last answers, to look back and undo."""
    person = labeler(request)
    rows = own_answers(store_of(request), person.id)
    return request.app.state.page(request, "mine.html", person, rows=rows)


@router.get("/guidelines/{number}")
def guideline(request: Request, number: int) -> Response:
    """The instructions in the version that a task names."""
    person = labeler(request)
    table = schema.guidelines
    with store_of(request).read() as connection:
        row = connection.execute(table.select().where(table.c.id == number)).first()
    if row is None:
        raise Missing("There are no such instructions.")
    return request.app.state.page(
        request, "guideline.html", person, guideline=row, blocks=blocks(row.text)
    )


@router.get("/settings")
def settings(request: Request) -> Response:
    """Sensitive items, and what a person may tell of themselves."""
    person = labeler(request)
    questions = survey_questions()
    return request.app.state.page(
        request, "settings.html", person, questions=questions, saved=False
    )


@router.post("/settings")
def save_settings(
    request: Request,
    csrf: Annotated[str, Form()] = "",
    sees_sensitive: Annotated[str, Form()] = "",
) -> Response:
    """Whether a person wants to be given sensitive items."""
    person = signed_in(request, csrf)
    table = schema.people
    with store_of(request).write() as connection:
        change = table.update().where(table.c.id == person.id)
        connection.execute(change.values(sees_sensitive=sees_sensitive == "yes"))
    return RedirectResponse("/settings", 303)


@router.post("/api/survey")
def survey(request: Request, body: Json) -> dict[str, Any]:
    """Self-assessment, stored with the person; demographics, stored without."""
    person = labeler(request)
    save_survey(store_of(request), person.id, body)
    return {"saved": True}


@router.post("/api/claim")
def next_task(request: Request) -> dict[str, Any]:
    """The task to work on, or None, and how far one is."""
    person, store = labeler(request), store_of(request)
    number = claim(store, person.id)
    task = None if number is None else task_view(store, person.id, number)
    places = request.app.state.places.open()
    return {"task": task, "progress": {**progress(store, person.id), "open": places}}


@router.get("/api/tasks/{number}")
def task(request: Request, number: int) -> dict[str, Any]:
    """One of one's own tasks."""
    return task_view(store_of(request), labeler(request).id, number)


@router.put("/api/tasks/{number}/draft")
def draft(request: Request, number: int, body: Json) -> dict[str, Any]:
    """Keeps what has been typed."""
    person = labeler(request)
    version = save_draft(
        store_of(request), person.id, number, body.get("version"), body.get("content")
    )
    return {"version": version}


@router.post("/api/tasks/{number}/submit")
def send(request: Request, number: int, body: Json) -> dict[str, Any]:
    """Takes an answer."""
    person = labeler(request)
    return submit(
        store_of(request),
        person.id,
        number,
        token=body.get("token"),
        content=body.get("content"),
        seconds=body.get("seconds", 0.0),
    )


@router.post("/api/tasks/{number}/skip")
def leave(request: Request, number: int, body: Json) -> dict[str, Any]:
    """Gives a task back."""
    person = labeler(request)
    skip(store_of(request), person.id, number, body.get("reason"))
    return {"state": "skipped"}


@router.post("/api/tasks/{number}/undo")
def take_back(request: Request, number: int) -> dict[str, Any]:
    """Opens a task again that was sent a short while ago."""
    person, store = labeler(request), store_of(request)
    undo(store, person.id, number)
    return {"task": task_view(store, person.id, number)}


@router.post("/api/tasks/{number}/chat")
def talk(request: Request, number: int, body: Json) -> dict[str, Any]:
    """Both models answer a message."""
    from rlhf_jax.labelling.chatting import converse

    person, store = labeler(request), store_of(request)
    message = body.get("message")
    if not isinstance(message, str) or not message.strip():
        raise InputError("message: expected a text")
    converse(store, person.id, number, message)
    return {"talk": task_view(store, person.id, number)["talk"]}

"""Drafts, submissions, undo and skips of one person's assignment.

Nothing that a person sent is lost: an answer is a revision, an undone one is kept and
marked, an answer after its lease ran out takes a slot that is still free or is kept
as an extra.
"""

from typing import Any

import sqlalchemy as sa

from rlhf_jax.errors import InputError
from rlhf_jax.labelling import schema
from rlhf_jax.labelling.assignment import own_assignment, take_slot
from rlhf_jax.labelling.refusals import Conflict, Forbidden
from rlhf_jax.labelling.store import Store, digest_of
from rlhf_jax.labelling.tasks import Definition, valid_answer

__all__ = ["UNDO_SECONDS", "save_draft", "skip", "submit", "undo"]

UNDO_SECONDS = 600.0
_SLOTTED = {"work", "adjudication"}


def save_draft(
    store: Store, person: int, number: int, version: int, content: Any
) -> int:
    """Keeps what a person has typed so far; the draft's new version.

    Args:
      store: the study.
      person: whose it is.
      number: the assignment.
      version: of the draft on which this one builds, 0 for none.
      content: whatever the page wants back.

    Raises:
      Conflict: another tab has saved since, or the task is closed.
    """
    if not isinstance(content, dict) or not isinstance(version, int):
        raise InputError("draft: expected an object and a version")
    table = schema.drafts
    with store.write(durable=False) as connection:
        row = own_assignment(connection, person, number)
        if row.state not in {"open", "expired"}:
            raise Conflict("This task is already answered, maybe in another tab.")
        query = sa.select(table.c.version).where(table.c.assignment == number)
        found = connection.scalar(query) or 0
        if found != version:
            raise Conflict("Another tab has a newer draft of this task.")
        _put_draft(store, connection, number, version + 1, content)
        if row.state == "open":
            lease = store.clock() + row.lease_seconds
            change = schema.assignments.update().where(
                schema.assignments.c.id == number
            )
            connection.execute(change.values(leased_until=lease))
    return version + 1


def submit(
    store: Store,
    person: int,
    number: int,
    *,
    token: str,
    content: Any,
    seconds: float = 0.0,
) -> dict[str, Any]:
    """Stores an answer; what the page is to know of it.

    Args:
      store: the study.
      person: who answers.
      number: the assignment.
      token: made by the page for this submission; the same one sent again, after a
        timeout or a double click, gives the same reply and stores nothing.
      content: see `tasks.valid_answer`.
      seconds: active time on the task, without idle time.

    Raises:
      Conflict: the task is closed, or the token was used for something else.
      InputError: the answer is not complete.
    """
    if not isinstance(token, str) or not 16 <= len(token) <= 64:
        raise InputError("token: expected 16 to 64 characters")
    with store.write() as connection:
        row = own_assignment(connection, person, number)
        sent = _sent_before(connection, token)
        if sent is not None:
            if sent.assignments_id != number:
                raise Conflict("This was sent before, for another task.")
            return {"state": row.state, "repeated": True}
        _require_open(connection, row, person)
        answer = _checked(connection, row, content)
        state = _closing_state(connection, row)
        event = store.event(
            connection,
            "submit",
            actor=person,
            assignment=number,
            item=row.items_id,
            digest=digest_of(answer),
        )
        now = store.clock()
        active = min(max(0.0, _number(seconds)), now - row.claimed_at)
        made = schema.answers.insert().values(
            assignments_id=number,
            revision=_revisions(connection, number) + 1,
            token=token,
            content=answer,
            extra=state == "extra",
            seconds=round(active, 3),
            submitted_at=now,
            event=event,
        )
        connection.execute(made)
        _close(connection, number, state=state, closed_at=now)
        drafts = schema.drafts
        connection.execute(drafts.delete().where(drafts.c.assignment == number))
    return {"state": state, "repeated": False}


def skip(store: Store, person: int, number: int, reason: str) -> None:
    """Gives a task back, with the reason.

    Raises:
      Conflict: it is answered already.
      InputError: no reason.
    """
    if not isinstance(reason, str) or not reason.strip():
        raise InputError("reason: expected one")
    with store.write() as connection:
        row = own_assignment(connection, person, number)
        _require_open(connection, row, person)
        _free(connection, number)
        _close(
            connection,
            number,
            state="skipped",
            closed_at=store.clock(),
            reason=reason[:500].encode("ascii", "backslashreplace").decode(),
        )
        store.event(
            connection, "skip", actor=person, assignment=number, item=row.items_id
        )


def undo(store: Store, person: int, number: int) -> None:
    """Opens an answered or skipped task again; its answer becomes the draft.

    Raises:
      Conflict: more than `UNDO_SECONDS` have passed, or somebody else has it now.
    """
    with store.write() as connection:
        row = own_assignment(connection, person, number)
        if row.state not in {"done", "extra", "skipped"}:
            raise Conflict("This task is not answered yet.")
        if store.clock() - row.closed_at > UNDO_SECONDS:
            raise Conflict("It is too late to undo this answer.")
        if row.state == "skipped" and row.purpose in _SLOTTED:
            if not take_slot(connection, row.items_id, number):
                raise Conflict("Somebody else has this task now.")
        event = store.event(
            connection, "undo", actor=person, assignment=number, item=row.items_id
        )
        if row.state != "skipped":
            _withdraw(store, connection, number, event)
        _close(
            connection,
            number,
            state="expired" if row.state == "extra" else "open",
            closed_at=None,
            reason=None,
            leased_until=store.clock() + row.lease_seconds,
        )


def _withdraw(store: Store, connection: sa.Connection, number: int, event: int) -> None:
    """Marks the answer in force as withdrawn; what it said is the draft."""
    table, drafts = schema.answers, schema.drafts
    query = sa.select(table).where(
        table.c.assignments_id == number, table.c.withdrawn_event.is_(None)
    )
    last = connection.execute(query).one()
    change = table.update().where(table.c.id == last.id)
    connection.execute(change.values(withdrawn_event=event))
    connection.execute(drafts.delete().where(drafts.c.assignment == number))
    content = {**last.content, "active_seconds": last.seconds}
    _put_draft(store, connection, number, 1, content)


def _put_draft(
    store: Store, connection: sa.Connection, number: int, version: int, content: Any
) -> None:
    table = schema.drafts
    values = {"version": version, "content": content, "saved_at": store.clock()}
    if version == 1:
        connection.execute(table.insert().values(assignment=number, **values))
    else:
        change = table.update().where(table.c.assignment == number)
        connection.execute(change.values(**values))


def _require_open(connection: sa.Connection, row: sa.Row, person: int) -> None:
    if row.state not in {"open", "expired"}:
        raise Conflict("This task is already answered, maybe in another tab.")
    people = schema.people
    state = connection.scalar(sa.select(people.c.state).where(people.c.id == person))
    if state in {"paused", "removed"}:
        raise Forbidden("Your work is paused. Please ask the researchers.")


def _checked(connection: sa.Connection, row: sa.Row, content: Any) -> dict[str, Any]:
    table = schema.definitions
    query = sa.select(table.c.document).where(table.c.id == row.definitions_id)
    definition = Definition.model_validate(connection.scalar(query))
    answer = valid_answer(definition, content, len(row.shown_order))
    if definition.kind == "chat":
        turns = schema.chat_turns
        count = sa.select(sa.func.count()).where(turns.c.assignments_id == row.id)
        if not connection.scalar(count):
            raise InputError("chat: expected at least one message")
    return answer


def _closing_state(connection: sa.Connection, row: sa.Row) -> str:
    """Done; or extra, where the lease ran out and every slot is somebody else's."""
    if row.state == "open" or row.purpose not in _SLOTTED:
        return "done"
    return "done" if take_slot(connection, row.items_id, row.id) else "extra"


def _sent_before(connection: sa.Connection, token: str) -> sa.Row | None:
    table = schema.answers
    query = sa.select(table.c.assignments_id).where(table.c.token == token)
    return connection.execute(query).first()


def _revisions(connection: sa.Connection, number: int) -> int:
    table = schema.answers
    query = sa.select(sa.func.max(table.c.revision))
    return connection.scalar(query.where(table.c.assignments_id == number)) or 0


def _free(connection: sa.Connection, number: int) -> None:
    slots = schema.slots
    free = slots.update().where(slots.c.assignment == number)
    connection.execute(free.values(assignment=None))


def _close(connection: sa.Connection, number: int, **values: Any) -> None:
    table = schema.assignments
    connection.execute(table.update().where(table.c.id == number).values(**values))


def _number(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if value == value else 0.0
    raise InputError(f"seconds: expected a number, got {value!r}")

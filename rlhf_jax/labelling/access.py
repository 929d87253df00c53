"""Persons, their tokens and sessions. Secrets are 256 random bits, stored as hashes.

A token is shown once, when it is made. A person is a pseudonym; who stands behind it
is not in the database.
"""

import hashlib
import re
import secrets
from typing import Any

import sqlalchemy as sa

from rlhf_jax.errors import InputError
from rlhf_jax.labelling import schema
from rlhf_jax.labelling.refusals import Forbidden, Missing, Unknown
from rlhf_jax.labelling.store import Store

__all__ = [
    "GROUPS",
    "add_person",
    "change_state",
    "log_in",
    "log_out",
    "new_token",
    "remove_person",
    "researcher_of",
    "session_of",
]

GROUPS = ("train", "held-out")
TOKEN_DAYS = 90
SESSION_HOURS = 12
DAY = 86_400.0
_NAME = re.compile(r"^[\w][\w .@+-]{0,63}$")

# asked with every request, so it is put together once
_SESSION = (
    sa.select(schema.people, schema.sessions.c.csrf)
    .join(schema.sessions, schema.sessions.c.people_id == schema.people.c.id)
    .where(schema.sessions.c.hash == sa.bindparam("secret"))
    .where(schema.sessions.c.expires_at >= sa.bindparam("now"))
)


def hashed(secret: str) -> str:
    """What the database keeps of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def add_person(
    store: Store,
    name: str,
    *,
    role: str = "labeler",
    group: str | None = "train",
    qualify: bool = False,
    days: float = TOKEN_DAYS,
    actor: int | None = None,
) -> tuple[int, str]:
    """A new person and their token, which nobody can read again.

    Args:
      store: the study.
      name: a pseudonym, unique.
      role: "labeler" or "researcher".
      group: "train" or "held-out" for a labeler.
      qualify: they begin with the qualification round.
      days: until the token expires.
      actor: the researcher who invites.

    Raises:
      InputError: the name is taken or no name, or there is no such group.
    """
    if not _NAME.match(name):
        raise InputError(f"name {name!r}: expected up to 64 letters, digits, . @ + -")
    if role == "labeler" and group not in GROUPS:
        raise InputError(f"group {group!r}: expected one of {', '.join(GROUPS)}")
    token = secrets.token_urlsafe(32)
    with store.write() as connection:
        people = schema.people
        query = sa.select(people.c.id).where(people.c.name == name)
        if connection.scalar(query) is not None:
            raise InputError(f"name {name!r}: taken")
        row = people.insert().values(
            name=name,
            role=role,
            group=group if role == "labeler" else None,
            state="qualifying" if qualify else "active",
            token_hash=hashed(token),
            token_expires_at=store.clock() + days * DAY,
            created_at=store.clock(),
            sees_sensitive=True,
            asked_demographics=False,
        )
        (person,) = connection.execute(row).inserted_primary_key
        store.event(
            connection, "invite", actor=actor, person=person, role=role, group=group
        )
    return person, token


def new_token(
    store: Store, person: int, *, days: float = TOKEN_DAYS, actor: int | None = None
) -> str:
    """Another token in place of the old one; the person's sessions end."""
    token = secrets.token_urlsafe(32)
    with store.write() as connection:
        _require_person(connection, person)
        _end_sessions(connection, person)
        change = schema.people.update().where(schema.people.c.id == person)
        values = {
            "token_hash": hashed(token),
            "token_expires_at": store.clock() + days * DAY,
        }
        connection.execute(change.values(**values))
        store.event(connection, "new_token", actor=actor, person=person)
    return token


def log_in(store: Store, token: str) -> tuple[str, sa.Row]:
    """(the secret of a new session, the person) of a token.

    Raises:
      Unknown: a wrong, expired or withdrawn token; which of them is not said.
    """
    people, sessions = schema.people, schema.sessions
    with store.write() as connection:
        query = sa.select(people).where(people.c.token_hash == hashed(token))
        person = connection.execute(query).first()
        now = store.clock()
        if person is None or person.state == "removed" or person.token_expires_at < now:
            store.event(connection, "refused_login")
            found = None
        else:
            found = secrets.token_urlsafe(32)
            connection.execute(sessions.delete().where(sessions.c.expires_at < now))
            row = sessions.insert().values(
                hash=hashed(found),
                people_id=person.id,
                csrf=secrets.token_urlsafe(32),
                expires_at=now + SESSION_HOURS * 3600,
            )
            connection.execute(row)
            store.event(connection, "login", actor=person.id)
    if found is None:
        raise Unknown("This token is not valid, or no longer.")
    return found, person


def session_of(store: Store, secret: str | None) -> sa.Row:
    """The person of a session, with `csrf`.

    Raises:
      Unknown: there is no such session, or it has ended.
    """
    if not secret:
        raise Unknown("Please sign in.")
    values = {"secret": hashed(secret), "now": store.clock()}
    with store.read() as connection:
        person = connection.execute(_SESSION, values).first()
    if person is None or person.state == "removed":
        raise Unknown("Please sign in again.")
    return person


def researcher_of(store: Store, token: str) -> sa.Row:
    """The researcher whose token a program brings.

    Raises:
      Unknown, Forbidden: nobody's, or a labeler's.
    """
    people = schema.people
    with store.read() as connection:
        query = sa.select(people).where(people.c.token_hash == hashed(token))
        person = connection.execute(query).first()
    if person is None or person.token_expires_at < store.clock():
        raise Unknown("This token is not valid, or no longer.")
    if person.role != "researcher" or person.state != "active":
        raise Forbidden("This needs a researcher's token.")
    return person


def log_out(store: Store, secret: str) -> None:
    """Ends a session."""
    with store.write() as connection:
        table = schema.sessions
        connection.execute(table.delete().where(table.c.hash == hashed(secret)))


def change_state(
    store: Store,
    person: int,
    state: str,
    *,
    group: str | None = None,
    actor: int | None = None,
) -> None:
    """Pauses, resumes or admits a person; what they hold goes back to the queue.

    Args:
      store: the study.
      person: whose state it is.
      state: "active", "paused" or "qualifying".
      group: puts them into this group too.
      actor: the researcher.
    """
    if state not in {"active", "paused", "qualifying"}:
        raise InputError(f"state {state!r}: expected active, paused or qualifying")
    if group is not None and group not in GROUPS:
        raise InputError(f"group {group!r}: expected one of {', '.join(GROUPS)}")
    with store.write() as connection:
        before = _require_person(connection, person)
        if group not in (None, before.group) and _has_answers(connection, person):
            raise InputError(
                f"{before.name}: has answered as {before.group}; the groups are kept "
                "apart, so invite them under another name"
            )
        values: dict[str, Any] = {"state": state}
        if group is not None:
            values["group"] = group
        change = schema.people.update().where(schema.people.c.id == person)
        connection.execute(change.values(**values))
        if state == "paused":
            _give_back(store, connection, person)
        store.event(
            connection, "state", actor=actor, person=person, old=before.state, new=state
        )


def remove_person(
    store: Store, person: int, how: str, *, actor: int | None = None
) -> str:
    """Takes a person out of the study, on their request.

    Args:
      store: the study.
      person: who leaves.
      how: "pseudonymised": their answers stay, under a name that says nothing;
        "erased": their answers are deleted too and asked of others again. The audit
        log keeps that there were answers, and their hashes, not what they said.
      actor: the researcher.

    Returns:
      What was done, for the person to read.
    """
    if how not in {"pseudonymised", "erased"}:
        raise InputError(f"removal {how!r}: expected pseudonymised or erased")
    people = schema.people
    with store.write() as connection:
        _require_person(connection, person)
        _end_sessions(connection, person)
        _give_back(store, connection, person)
        name = f"removed-{secrets.token_hex(4)}"
        values = {
            "name": name,
            "state": "removed",
            "token_hash": None,
            "survey": None,
        }
        change = people.update().where(people.c.id == person)
        connection.execute(change.values(**values))
        count = _erase(connection, person) if how == "erased" else 0
        store.event(connection, "remove", actor=actor, person=person, how=how)
    if how == "erased":
        return f"{count} answers and everything else of this person are deleted."
    return f"The answers are kept under {name}; name, token and survey are deleted."


def _erase(connection: sa.Connection, person: int) -> int:
    """Empties the person's answers and frees the slots that they filled."""
    assignments, answers = schema.assignments, schema.answers
    mine = sa.select(assignments.c.id).where(assignments.c.people_id == person)
    of_mine = answers.c.assignments_id.in_(mine)
    change = answers.update().where(of_mine, answers.c.content.is_not(None))
    count = connection.execute(change.values(content=sa.null())).rowcount
    slots = schema.slots
    free = slots.update().where(slots.c.assignment.in_(mine))
    connection.execute(free.values(assignment=None))
    connection.execute(
        assignments.update()
        .where(assignments.c.people_id == person)
        .values(state="removed", reason=None)
    )
    for table, column in (
        (schema.drafts, schema.drafts.c.assignment),
        (schema.chat_turns, schema.chat_turns.c.assignments_id),
        (schema.marks, schema.marks.c.assignments_id),
    ):
        connection.execute(table.delete().where(column.in_(mine)))
    return count


def _give_back(store: Store, connection: sa.Connection, person: int) -> None:
    """Open assignments of the person expire now."""
    from rlhf_jax.labelling.assignment import expire

    table = schema.assignments
    mine = (table.c.people_id == person, table.c.state == "open")
    connection.execute(table.update().where(*mine).values(leased_until=0.0))
    expire(store, connection)


def _end_sessions(connection: sa.Connection, person: int) -> None:
    table = schema.sessions
    connection.execute(table.delete().where(table.c.people_id == person))


def _has_answers(connection: sa.Connection, person: int) -> bool:
    table, items, batches = schema.assignments, schema.items, schema.batches
    query = (
        sa.select(table.c.id)
        .join(items, items.c.id == table.c.items_id)
        .join(batches, batches.c.id == items.c.batches_id)
        .where(table.c.people_id == person, table.c.state == "done")
        .where(batches.c.purpose == "work")
    )
    return connection.scalar(query.limit(1)) is not None


def _require_person(connection: sa.Connection, person: int) -> sa.Row:
    query = sa.select(schema.people).where(schema.people.c.id == person)
    row = connection.execute(query).first()
    if row is None or row.state == "removed":
        raise Missing("There is no such person.")
    return row

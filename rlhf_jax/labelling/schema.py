"""The tables, their version, and the way from an older version to this one.

Times are UTC seconds since 1970. JSON is stored as ASCII text, so that NUL and any
other character of a text survive both databases.
"""

import json
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

__all__ = ["MIGRATIONS", "VERSION", "metadata"]

VERSION = 1
# version -> what makes a database of the version before into one of it
MIGRATIONS: dict[int, Callable[[sa.Connection], None]] = {}


class Json(TypeDecorator):
    """A JSON value as ASCII text."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        """To the database."""
        return None if value is None else json.dumps(value, sort_keys=True)

    def process_result_value(self, value: str | None, dialect: Any) -> Any:
        """From the database."""
        return None if value is None else json.loads(value)


metadata = sa.MetaData()
Time = sa.Double


def _id() -> sa.Column:
    return sa.Column("id", sa.Integer, primary_key=True, autoincrement=True)


def _to(table: str, name: str | None = None, *, null: bool = False) -> sa.Column:
    key = sa.ForeignKey(f"{table}.id")
    return sa.Column(name or f"{table}_id", sa.Integer, key, nullable=null)


def _text(name: str, *, null: bool = False, **options: Any) -> sa.Column:
    return sa.Column(name, sa.Text, nullable=null, **options)


meta = sa.Table("meta", metadata, _text("key", primary_key=True), _text("value"))

# what is asked (tasks.Definition), never changed, only followed by a next version
definitions = sa.Table(
    "definitions",
    metadata,
    _id(),
    _text("name"),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("document", Json, nullable=False),
    sa.UniqueConstraint("name", "version"),
)

guidelines = sa.Table(
    "guidelines",
    metadata,
    _id(),
    _text("name"),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("text", Json, nullable=False),
    sa.UniqueConstraint("name", "version"),
)

batches = sa.Table(
    "batches",
    metadata,
    _id(),
    _text("name", unique=True),
    _to("definitions"),
    _to("guidelines"),
    _text("purpose"),  # work, qualification
    _text("people", null=True),  # "train", "held-out"; None: both
    sa.Column("overlap", sa.Integer, nullable=False),
    sa.Column("gold_rate", sa.Double, nullable=False),
    sa.Column("repeat_rate", sa.Double, nullable=False),
    sa.Column("lease_seconds", sa.Double, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),  # the smallest comes first
    sa.Column("price", sa.Double),  # of one answer, in the study's currency
    sa.Column("settings", Json, nullable=False),  # chat models, deadline, ...
    sa.Column("created_at", Time, nullable=False),
    sa.Column("closed", sa.Boolean, nullable=False),
)

items = sa.Table(
    "items",
    metadata,
    _id(),
    _to("batches"),
    _text("key"),  # the record's id
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("record", Json, nullable=False),  # as imported
    _text("digest"),
    sa.Column("sensitive", sa.Boolean, nullable=False),
    sa.Column("gold", Json),  # the researchers' answer; such an item has no slots
    sa.UniqueConstraint("batches_id", "key"),
)

people = sa.Table(
    "people",
    metadata,
    _id(),
    _text("name", unique=True),  # a pseudonym
    _text("role"),  # labeler, researcher
    _text("group", null=True),  # train, held-out
    _text("state"),  # qualifying, active, paused, removed
    _text("token_hash", null=True, unique=True),
    sa.Column("token_expires_at", Time),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("sees_sensitive", sa.Boolean, nullable=False),
    sa.Column("survey", Json),  # self-assessment of the screening
    sa.Column("asked_demographics", sa.Boolean, nullable=False),
)

sessions = sa.Table(
    "sessions",
    metadata,
    _text("hash", primary_key=True),
    _to("people"),
    _text("csrf"),
    sa.Column("expires_at", Time, nullable=False),
)

# One row for each answer that an item needs: the overlap is exact because a slot
# belongs to one assignment, and there are no others to be had.
slots = sa.Table(
    "slots",
    metadata,
    _id(),
    _to("items"),
    _to("batches"),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    _to("people", "reserved_for", null=True),
    sa.Column("assignment", sa.Integer, unique=True),
    sa.UniqueConstraint("items_id", "number"),
    sa.Index("free_slots", "batches_id", "assignment", "position", "number"),
)

assignments = sa.Table(
    "assignments",
    metadata,
    _id(),
    _to("items"),
    _to("people"),
    sa.Column("repetition", sa.Integer, nullable=False),
    _text("purpose"),  # work, gold, repeat, qualification, adjudication
    _text("state"),  # open, done, extra, skipped, expired
    sa.Column("shown_order", Json, nullable=False),  # slot -> distinct text
    sa.Column("claimed_at", Time, nullable=False),
    sa.Column("leased_until", Time, nullable=False),
    sa.Column("closed_at", Time),
    _text("reason", null=True),  # of a skip
    _to("definitions"),
    _to("guidelines"),
    sa.UniqueConstraint("items_id", "people_id", "repetition"),
    sa.Index("of_person", "people_id", "state"),
    sa.Index("leases", "state", "leased_until"),
)

answers = sa.Table(
    "answers",
    metadata,
    _id(),
    _to("assignments"),
    sa.Column("revision", sa.Integer, nullable=False),
    _text("token", unique=True),  # of the submission: sent twice, stored once
    sa.Column("content", Json),  # None: erased on request
    sa.Column("extra", sa.Boolean, nullable=False),  # came late, all slots taken
    sa.Column("seconds", sa.Double, nullable=False),  # active, as the page counts
    sa.Column("submitted_at", Time, nullable=False),
    sa.Column("event", sa.Integer, nullable=False),
    sa.Column("withdrawn_event", sa.Integer),
    sa.UniqueConstraint("assignments_id", "revision"),
)

drafts = sa.Table(
    "drafts",
    metadata,
    sa.Column(
        "assignment", sa.Integer, sa.ForeignKey("assignments.id"), primary_key=True
    ),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("content", Json, nullable=False),
    sa.Column("saved_at", Time, nullable=False),
)

chat_turns = sa.Table(
    "chat_turns",
    metadata,
    _id(),
    _to("assignments"),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("message", Json, nullable=False),
    sa.Column("replies", Json, nullable=False),  # by model, not by side
    sa.UniqueConstraint("assignments_id", "number"),
)

# researchers' marks, 1 to 7, for demonstrations of the qualification round
marks = sa.Table(
    "marks",
    metadata,
    _id(),
    _to("assignments"),
    _to("people", "scorer"),
    sa.Column("mark", sa.Integer, nullable=False),
    sa.UniqueConstraint("assignments_id", "scorer"),
)

# no person, no time, a random key: nothing ties a row to whoever filled it in
demographics = sa.Table(
    "demographics",
    metadata,
    _text("id", primary_key=True),
    sa.Column("content", Json, nullable=False),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", Time, nullable=False),
    sa.Column("actor", sa.Integer),
    _text("action"),
    sa.Column("assignment", sa.Integer),
    sa.Column("item", sa.Integer),
    sa.Column("detail", Json, nullable=False),
    _text("hash"),
)

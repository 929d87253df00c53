"""One database of a study: SQLite in a file, or PostgreSQL.

There is one writer at a time, over all processes: `BEGIN IMMEDIATE` in SQLite, an
advisory lock in PostgreSQL. So a rule that a transaction checks still holds when it
commits, and the numbers of the events are the order in which things became durable:
"as of event n" is one exact state.

SQLite runs with a write-ahead log and synchronous=FULL, since NORMAL may lose an
acknowledged answer when the machine loses power; drafts, which the browser has too, do
not wait for the disk. The file must lie on a local disk.
"""

import contextlib
import hashlib
import json
import pathlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa

from rlhf_jax.errors import InputError
from rlhf_jax.faults import fault
from rlhf_jax.labelling import schema

__all__ = ["Store", "open_store"]

FILE = "labels.sqlite"
_LOCK = 0x726C6866  # of the single writer, "rlhf"
FIRST_HASH = "0" * 64
# needed by every write, so they are put together once
_LAST = sa.select(schema.events.c.seq, schema.events.c.hash)
_LAST = _LAST.order_by(schema.events.c.seq.desc()).limit(1)
_WRITE = schema.events.insert()


class Store:
    """An open database.

    Attributes:
      engine: SQLAlchemy's engine.
      clock: gives UTC seconds; tests put their own here.
      path: the file; None for PostgreSQL.
    """

    def __init__(
        self,
        engine: sa.Engine,
        path: pathlib.Path | None = None,
        clock: Callable[[], float] = time.time,
    ):
        self.engine, self.path, self.clock = engine, path, clock
        self._writer = threading.Lock()  # spares SQLite's waiting by sleeping
        self._seed: str | None = None

    @contextlib.contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sa.Connection]:
        """A transaction of the single writer; committed when the block ends well.

        Args:
          durable: it survives a loss of power. Without, it survives a killed server
            all the same, and costs no wait for the disk.
        """
        lock = self._writer if self.path else contextlib.nullcontext()
        with lock, self.engine.connect() as connection:
            connection = connection.execution_options(writes=True, durable=durable)
            with connection.begin():
                yield connection
                fault("label.before_commit")

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state of the database and changes nothing."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    def event(
        self,
        connection: sa.Connection,
        action: str,
        *,
        actor: int | None = None,
        assignment: int | None = None,
        item: int | None = None,
        **detail: Any,
    ) -> int:
        """Writes a line of the audit log, inside a `write`; its number."""
        last = connection.execute(_LAST).first()
        seq, before = (last.seq, last.hash) if last else (0, FIRST_HASH)
        row = {
            "seq": seq + 1,
            "at": self.clock(),
            "actor": actor,
            "action": action,
            "assignment": assignment,
            "item": item,
            "detail": detail,
        }
        connection.execute(_WRITE, {**row, "hash": chained(before, row)})
        return seq + 1

    def last_event(self, connection: sa.Connection) -> int:
        """The number of the newest event; 0 where there is none."""
        return connection.scalar(sa.select(sa.func.max(schema.events.c.seq))) or 0

    def seed(self, connection: sa.Connection) -> str:
        """Of everything that is drawn in this study."""
        if self._seed is None:
            self._seed = self.setting(connection, "seed")
        return self._seed

    def setting(self, connection: sa.Connection, key: str) -> str | None:
        """A value of the table `meta`."""
        table = schema.meta
        return connection.scalar(sa.select(table.c.value).where(table.c.key == key))

    def backup(self, target: str | pathlib.Path) -> None:
        """A consistent copy, made while the server runs.

        Raises:
          InputError: the target exists, or the database is PostgreSQL.
        """
        if self.path is None:
            raise InputError("backup: this is PostgreSQL, use pg_dump")
        if pathlib.Path(target).exists():
            raise InputError(f"backup: {target} exists")
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.execute("VACUUM INTO ?", (str(target),))

    def verify(self) -> list[str]:
        """What is wrong with the database, one line each; empty when all is well.

        Reads the whole: the chain of events, the digest of every answer, the overlap
        of every item.
        """
        from rlhf_jax.labelling.verification import problems

        with self.read() as connection:
            return list(problems(self, connection))

    def close(self) -> None:
        """Gives the connections back."""
        self.engine.dispose()


def chained(before: str, row: dict[str, Any]) -> str:
    """The hash of an event: of what it says, and of the event before it."""
    names = ("seq", "at", "actor", "action", "assignment", "item", "detail")
    text = json.dumps([before, *(row[name] for name in names)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value, as events name the content of answers."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def open_store(
    place: str | pathlib.Path,
    *,
    create: bool = True,
    clock: Callable[[], float] = time.time,
) -> Store:
    """The database of a study.

    Args:
      place: a directory (its file is `labels.sqlite`), a file whose name ends in
        `.sqlite` or `.db`, or an address `postgresql://...`.
      create: make it where it does not exist.
      clock: gives UTC seconds.

    Raises:
      InputError: it is absent, damaged, unreachable, or of a newer version.
    """
    place = str(place)
    path = None
    if place.startswith(("postgresql://", "postgres://", "postgresql+psycopg://")):
        address = "postgresql+psycopg://" + place.partition("://")[2]
        engine = sa.create_engine(
            address, pool_size=10, max_overflow=30, isolation_level="READ COMMITTED"
        )
    else:
        path = database_file(place)
        if not create and not path.exists():
            raise InputError(f"{path}: there is no such study")
        path.parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(
            f"sqlite:///{path}",
            pool_size=10,
            max_overflow=40,
            connect_args={"check_same_thread": False, "timeout": 20},
        )
    _configure(engine, path is not None)
    store = Store(engine, path, clock)
    try:
        _prepare(store)
    except sa.exc.DBAPIError as error:
        backups = ", ".join(str(p) for p in _backups(path)) or "none beside it"
        raise InputError(
            f"{path or engine.url.render_as_string()}: cannot be used as a database of "
            f"labels ({str(error.orig).strip()}); backups: {backups}"
        ) from error
    return store


def database_file(place: str) -> pathlib.Path:
    """The file that a directory or a file name stands for."""
    path = pathlib.Path(place)
    if "://" in place:
        raise InputError(f"{place}: expected a directory, a file or postgresql://...")
    return path if path.suffix in {".sqlite", ".db"} else path / FILE


def _configure(engine: sa.Engine, sqlite: bool) -> None:
    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, record: Any) -> None:
        if not sqlite:
            return
        connection.isolation_level = None  # BEGIN is ours, below
        for pragma in (
            "journal_mode=WAL",
            "foreign_keys=ON",
            "busy_timeout=20000",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        writes, durable = options.get("writes", False), options.get("durable", True)
        if sqlite and writes:
            level = "FULL" if durable else "NORMAL"
            connection.exec_driver_sql(f"PRAGMA synchronous={level}")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        elif sqlite:
            connection.exec_driver_sql("BEGIN")
        elif writes:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            if not durable:
                connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
        else:
            connection.exec_driver_sql(
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
            )


def _prepare(store: Store) -> None:
    """Makes the tables, or brings older ones to this version after a backup."""
    with store.write() as connection:
        tables = set(sa.inspect(connection).get_table_names())
        if not tables:
            schema.metadata.create_all(connection)
            values = {"version": str(schema.VERSION), "seed": _seed()}
            rows = [{"key": k, "value": v} for k, v in values.items()]
            connection.execute(schema.meta.insert(), rows)
            return
        if "meta" not in tables:
            raise InputError(f"{store.engine.url}: a database, but not one of labels")
        version = int(store.setting(connection, "version") or 0)
    if version > schema.VERSION:
        raise InputError(
            f"{store.engine.url}: made by a newer release (schema {version}, this one "
            f"knows {schema.VERSION}); install that release"
        )
    if version < schema.VERSION:
        _migrate(store, version)


def _migrate(store: Store, version: int) -> None:
    if store.path is not None:
        store.backup(store.path.with_suffix(f".v{version}.{int(store.clock())}.bak"))
    with store.write() as connection:
        for number in range(version + 1, schema.VERSION + 1):
            schema.MIGRATIONS[number](connection)
        row = schema.meta.update().where(schema.meta.c.key == "version")
        connection.execute(row.values(value=str(schema.VERSION)))
        store.event(connection, "migrate", old=version, new=schema.VERSION)


def _backups(path: pathlib.Path | None) -> list[pathlib.Path]:
    return sorted(path.parent.glob(f"{path.stem}*.bak")) if path else []


def _seed() -> str:
    import secrets

    return str(secrets.randbits(62))

"""The database: versions, damage, backups, the audit chain."""

import sqlite3

import pytest
import sqlalchemy as sa
from studies import batch_of, person, ranked, rows_of, sets

from rlhf_jax.errors import InputError
from rlhf_jax.labelling import schema
from rlhf_jax.labelling.answering import submit
from rlhf_jax.labelling.assignment import claim
from rlhf_jax.labelling.store import open_store


def answered(store):
    batch_of(store, sets(2))
    who = person(store)
    number = claim(store, who)
    submit(store, who, number, token="0123456789abcdef", content=ranked(3))


def test_a_study_opens_again_as_it_was(place, clock):
    first = open_store(place, clock=clock)
    answered(first)
    first.close()
    again = open_store(place, create=False)
    assert len(rows_of(again, sa.select(schema.answers))) == 1
    assert again.verify() == []
    again.close()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE answers SET content = '{}'", "changed since it was submitted"),
        ("DELETE FROM answers", "its answer is gone"),
        ("UPDATE events SET actor = 7 WHERE seq = 2", "event 2: changed"),
        ("DELETE FROM events WHERE seq = 3", "event 3: missing"),
        ("UPDATE slots SET assignment = 99 WHERE assignment = 1", "slot"),
        ("UPDATE slots SET assignment = NULL", "holds no slot"),
    ],
)
def test_verify_tells_what_was_tampered_with(store, change, told):
    answered(store)
    with store.write() as connection:
        connection.exec_driver_sql(change)
    assert any(told in line for line in store.verify())


def test_a_damaged_file_is_refused_with_its_backups(tmp_path):
    store = open_store(tmp_path)
    answered(store)
    store.backup(tmp_path / "labels.monday.bak")
    store.close()
    path = tmp_path / "labels.sqlite"
    path.write_bytes(b"not a database at all" + path.read_bytes()[21:])
    with pytest.raises(InputError, match=r"labels\.monday\.bak"):
        open_store(tmp_path)


def test_another_program_s_database_is_refused(tmp_path):
    connection = sqlite3.connect(tmp_path / "labels.sqlite")
    connection.execute("CREATE TABLE songs (id)")
    connection.commit()
    with pytest.raises(InputError, match="not one of labels"):
        open_store(tmp_path)


def test_a_study_that_is_not_there_is_not_made_by_reading(tmp_path):
    with pytest.raises(InputError, match="no such study"):
        open_store(tmp_path / "nothing", create=False)
    assert not (tmp_path / "nothing").exists()


def test_a_newer_version_is_refused(tmp_path):
    store = open_store(tmp_path)
    with store.write() as connection:
        connection.execute(schema.meta.update().where(
            schema.meta.c.key == "version").values(value="99"))  # fmt: skip
    store.close()
    with pytest.raises(InputError, match="newer release"):
        open_store(tmp_path)


def test_an_older_version_is_backed_up_and_migrated(place, tmp_path, monkeypatch):
    store = open_store(place)
    answered(store)
    store.close()

    def migrate(connection):
        connection.exec_driver_sql("ALTER TABLE people ADD COLUMN nickname TEXT")

    monkeypatch.setattr(schema, "VERSION", 2)
    monkeypatch.setitem(schema.MIGRATIONS, 2, migrate)
    store = open_store(place)
    with store.read() as connection:
        assert store.setting(connection, "version") == "2"
        names = [c["name"] for c in sa.inspect(connection).get_columns("people")]
    assert "nickname" in names
    assert store.verify() == []
    if store.path:
        (backup,) = store.path.parent.glob("*.v1.*.bak")
        assert sqlite3.connect(backup).execute(
            "SELECT count(*) FROM answers").fetchone() == (1,)  # fmt: skip
    store.close()


def test_a_migration_that_fails_changes_nothing(place, monkeypatch):
    open_store(place).close()

    def broken(connection):
        connection.exec_driver_sql("ALTER TABLE people ADD COLUMN nickname TEXT")
        raise RuntimeError("half way")

    monkeypatch.setattr(schema, "VERSION", 2)
    monkeypatch.setitem(schema.MIGRATIONS, 2, broken)
    with pytest.raises(RuntimeError):
        open_store(place)
    monkeypatch.undo()
    store = open_store(place)
    with store.read() as connection:
        names = [c["name"] for c in sa.inspect(connection).get_columns("people")]
    assert "nickname" not in names
    store.close()


def test_a_backup_of_a_running_study_is_whole(tmp_path):
    store = open_store(tmp_path)
    answered(store)
    store.backup(tmp_path / "copy.sqlite")
    with pytest.raises(InputError, match="exists"):
        store.backup(tmp_path / "copy.sqlite")
    copy = open_store(tmp_path / "copy.sqlite", create=False)
    assert copy.verify() == []
    copy.close()
    store.close()

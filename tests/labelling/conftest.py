"""Studies to test with: SQLite in a file, PostgreSQL in a private cluster."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import uuid

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra `labelling`")
pytest.importorskip("fastapi", reason="needs the extra `labelling`")

from rlhf_jax.labelling.store import open_store  # noqa: E402


class Clock:
    """Time that passes when a test says so."""

    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


def _postgres_programs() -> pathlib.Path | None:
    found = shutil.which("pg_ctl")
    if found:
        return pathlib.Path(found).parent
    return max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@pytest.fixture(scope="session")
def postgres_server():
    """Address of a private cluster on a Unix socket; skips where there is none."""
    programs = _postgres_programs()
    if programs is None or not (programs / "initdb").exists():
        pytest.skip("PostgreSQL is absent (Debian: postgresql)")
    pytest.importorskip("psycopg", reason="needs the extra `labelling-postgres`")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pg-"))
    prefix = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        prefix = ["runuser", "-u", "postgres", "--"]

    def call(name: str, *words: str) -> None:
        command = [*prefix, str(programs / name), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    data = str(folder / "data")
    call("initdb", "-D", data, "-A", "trust", "-U", "test", "-E", "UTF8", "--no-sync")
    options = f"-k {folder} -c listen_addresses='' -c max_connections=200"
    call("pg_ctl", "-D", data, "-w", "-o", options, "-l", f"{folder}/log", "start")
    yield f"postgresql://test@/{{name}}?host={folder}"
    call("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_place(postgres_server):
    """The address of a fresh database."""
    import psycopg

    name = f"t{uuid.uuid4().hex[:12]}"
    address = postgres_server.format(name="postgres")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres_server.format(name=name)


@pytest.fixture(autouse=True)
def fixed_seed(monkeypatch):
    """What is drawn in a study is the same in every run of the tests."""
    monkeypatch.setattr("rlhf_jax.labelling.store._seed", lambda: "1")


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    """Where a study lies, once for each kind of database."""
    if request.param == "sqlite":
        return str(tmp_path / "study")
    return request.getfixturevalue("postgres_place")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(place, clock):
    opened = open_store(place, clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def study(tmp_path, clock):
    """A study in SQLite, for what does not depend on the database."""
    opened = open_store(tmp_path / "study", clock=clock)
    yield opened
    opened.close()

"""The server is killed under load: what was acknowledged is there, once."""

import contextlib
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import sqlalchemy as sa
from studies import batch_of, ranked, rows_of, sets

from rlhf_jax.errors import InputError
from rlhf_jax.faults import injected
from rlhf_jax.labelling import schema
from rlhf_jax.labelling.access import add_person
from rlhf_jax.labelling.answering import submit
from rlhf_jax.labelling.assignment import claim
from rlhf_jax.labelling.simulate import Caller
from rlhf_jax.labelling.store import open_store

WORKER = pathlib.Path(__file__).with_name("load_worker.py")


class Server:
    """A process that serves a study on a port of its own, and can be killed."""

    def __init__(self, place: str):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        words = [sys.executable, str(WORKER), place, str(self.port)]
        pipe = subprocess.PIPE
        self.nursery = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True)

    def start(self) -> None:
        self.nursery.stdin.write("\n")
        self.nursery.stdin.flush()
        self.process = int(self.nursery.stdout.readline())
        while not self._listens():
            time.sleep(0.01)

    def _listens(self) -> bool:
        os.kill(self.process, 0)  # it is there
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """Returns when the process is gone, and its port with it."""
        os.kill(self.process, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(self.process, 0)
                time.sleep(0.002)

    def close(self) -> None:
        self.kill()
        self.nursery.stdin.close()
        self.nursery.wait()
        self.nursery.stdout.close()


class Worker(threading.Thread):
    """A person who answers as fast as they can, and remembers what was acknowledged."""

    def __init__(self, address: str, token: str):
        super().__init__(daemon=True)
        self.caller = Caller(address, token, patience=0.02)
        self.acknowledged: dict[str, int] = {}
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                self.caller.sign_in()
                break
            except (OSError, InputError):
                self.caller.close()
        while not self.stop.is_set():
            try:
                self.one()
            except InputError:  # the server was away for long
                pass

    def one(self) -> None:
        status, found = self.caller.call("/api/claim", {})
        if status != 200 or found["task"] is None:
            self.stop.wait(0.01)
            return
        task = found["task"]["id"]
        token = secrets.token_hex(16)
        body = {"token": token, "content": ranked(2)}
        status, _ = self.caller.call(f"/api/tasks/{task}/submit", body)
        if status == 200:
            self.acknowledged[token] = task


def survives(place: str, kills: int, people: int = 6) -> int:
    """Kills the server again and again while people answer; answers acknowledged."""
    store = open_store(place)
    batch_of(store, sets(4000, k=2), overlap=2)
    tokens = [add_person(store, f"p{n}")[1] for n in range(people)]
    server = Server(place)
    server.start()
    workers = [Worker(server.address, token) for token in tokens]
    for worker in workers:
        worker.start()
    for _ in range(kills):
        before = acknowledged(workers)
        while acknowledged(workers) < before + 5:
            time.sleep(0.005)
        server.kill()
        server.start()
    for worker in workers:
        worker.stop.set()
    for worker in workers:
        worker.join(60)
    server.close()
    table = schema.answers
    stored = {row.token: row for row in rows_of(store, sa.select(table))}
    for worker in workers:
        for token, task in worker.acknowledged.items():
            assert stored[token].assignments_id == task
    tasks = [row.assignments_id for row in stored.values()]
    assert len(tasks) == len(set(tasks))
    assert store.verify() == []
    store.close()
    return acknowledged(workers)


def acknowledged(workers: list[Worker]) -> int:
    return sum(len(worker.acknowledged) for worker in workers)


@pytest.mark.slow
def test_three_kills_lose_no_answer(tmp_path):
    assert survives(str(tmp_path / "study"), kills=3, people=3) >= 15


def test_a_write_that_is_cut_before_its_commit_leaves_nothing(store):
    batch_of(store, sets(1, k=2))
    who = add_person(store, "ann")[0]
    number = claim(store, who)
    token = "0123456789abcdef"
    with injected("label.before_commit:1:raise"), pytest.raises(RuntimeError):
        submit(store, who, number, token=token, content=ranked(2))
    assert rows_of(store, sa.select(schema.answers)) == []
    told = submit(store, who, number, token=token, content=ranked(2))
    assert told == {"state": "done", "repeated": False}
    assert store.verify() == []


@pytest.mark.slow
@pytest.mark.chaos
def test_a_hundred_kills_lose_no_answer(place):
    assert survives(place, kills=100) >= 500

"""The embedded world's labelers at work, through the same HTTP requests as people.

A simulated person signs in with a token, asks for a task, sees what a browser sees,
and answers by its own noise and biases, the place on the screen among them. For load
tests, for demonstrations, and for a reward model trained from a database end to end.
"""

import concurrent.futures
import http.client
import json
import re
import secrets
import threading
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from rlhf_jax.data.records import Prompt
from rlhf_jax.errors import InputError
from rlhf_jax.labelling import access, schema
from rlhf_jax.labelling.showing import turns
from rlhf_jax.labelling.store import Store
from rlhf_jax.simulation import Labeler, held_out_labelers, training_labelers
from rlhf_jax.simulation.candidates import write_response
from rlhf_jax.simulation.dice import Dice

__all__ = ["Caller", "simulate", "work_through"]

GROUPS = {
    "training": ("train", training_labelers),
    "held_out": ("held-out", held_out_labelers),
}
TRIES = 60  # of a request that does not arrive


class Caller:
    """One person's browser, without the browser.

    Args:
      address: of the server, "http://127.0.0.1:8000".
      token: of the person.
      patience: seconds between tries when the server does not answer.
    """

    def __init__(self, address: str, token: str, *, patience: float = 0.2):
        self.address, self.token, self.patience = address, token, patience
        self._connection: http.client.HTTPConnection | None = None
        self._headers: dict[str, str] = {}

    def sign_in(self) -> None:
        """Token in, session kept."""
        form = urllib.parse.urlencode({"token": self.token})
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        reply, _ = self._send("POST", "/login", form.encode(), kind)
        cookie = reply.getheader("set-cookie", "")
        if reply.status != 303:
            raise InputError(f"{self.address}: the token is not accepted")
        self._headers = {"Cookie": cookie.split(";")[0]}
        _, page = self._send("GET", "/settings", None, {})
        csrf = re.search(rb'name="csrf" content="([^"]+)"', page)[1].decode()
        self._headers |= {"X-CSRF-Token": csrf, "Content-Type": "application/json"}

    def call(self, path: str, body: Any, method: str = "POST") -> tuple[int, Any]:
        """(status, JSON of the reply); a request that gets none is sent again."""
        for _ in range(TRIES):
            try:
                reply, text = self._send(method, path, json.dumps(body).encode(), {})
                if reply.status == 429 or reply.status >= 500:
                    time.sleep(self.patience)
                    continue
                return reply.status, json.loads(text)
            except (OSError, http.client.HTTPException):
                self.close()
                time.sleep(self.patience)
        raise InputError(f"{self.address}: no answer after {TRIES} tries")

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        if self._connection is None:
            place = urllib.parse.urlsplit(self.address)
            kind = (
                http.client.HTTPSConnection
                if place.scheme == "https"
                else http.client.HTTPConnection
            )
            self._connection = kind(place.netloc, timeout=60)
        self._connection.request(method, path, body, {**self._headers, **headers})
        reply = self._connection.getresponse()
        return reply, reply.read()

    def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def simulate(
    store: Store, address: str, group: str, *, count: int = 40, seed: int = 0
) -> int:
    """Lets persons of the world answer everything that is open to their group.

    Args:
      store: the study, for inviting them and for the world's facts about its prompts,
        which a person reads out of the text and a program cannot.
      address: of its server.
      group: "training" or "held_out".
      count: persons.
      seed: of the persons.

    Returns:
      Answers given.

    Raises:
      InputError: no such group.
    """
    if group not in GROUPS:
        raise InputError(f"simulate {group!r}: expected one of {', '.join(GROUPS)}")
    name, make = GROUPS[group]
    people = make(seed, count=count)
    callers = [Caller(address, _token(store, p.name, name)) for p in people]
    prompts = world_prompts(store)
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return sum(
            pool.map(
                lambda one: work_through(*one, prompts),
                zip(callers, people, strict=True),
            )
        )


def _token(store: Store, name: str, group: str) -> str:
    people = schema.people
    with store.read() as connection:
        person = connection.scalar(sa.select(people.c.id).where(people.c.name == name))
    if person is None:
        return access.add_person(store, name, group=group)[1]
    return access.new_token(store, person)


def world_prompts(store: Store) -> dict[str, Prompt]:
    """What is shown -> the world's prompt, of every item that is of the world."""
    with store.read() as connection:
        records = connection.scalars(sa.select(schema.items.c.record)).all()
    names = Prompt.model_fields
    found = {}
    for record in records:
        if {"task", "spec", "world"} <= set(record.get("meta", {})):
            fields = {key: value for key, value in record.items() if key in names}
            found[json.dumps(turns(record))] = Prompt.model_validate(fields)
    return found


def work_through(
    caller: Caller,
    person: Labeler,
    prompts: Mapping[str, Prompt],
    stop: threading.Event | None = None,
) -> int:
    """Answers tasks until there are none; how many."""
    caller.sign_in()
    done = 0
    while stop is None or not stop.is_set():
        _, found = caller.call("/api/claim", {})
        task = found.get("task")
        if task is None:
            break
        content = answer_of(task, person, prompts)
        path = f"/api/tasks/{task['id']}"
        if content is None:
            caller.call(f"{path}/skip", {"reason": "Not of this world"})
            continue
        body = {"token": secrets.token_hex(16), "content": content}
        status, told = caller.call(f"{path}/submit", body)
        if status == 422:
            raise InputError(f"task {task['id']}: {told['error']}")
        done += status == 200
    caller.close()
    return done


def answer_of(
    task: Mapping[str, Any], person: Labeler, prompts: Mapping[str, Prompt]
) -> dict[str, Any] | None:
    """What a person of the world says to a task; None to one of another world."""
    prompt = prompts.get(json.dumps(task["item"]["turns"]))
    if prompt is None:
        return None
    texts: Sequence[str] = task["item"]["texts"]
    if task["kind"] == "demonstration":
        dice = Dice("labelling", person.name, prompt.id)
        return {"text": write_response(prompt, "ideal", dice)}
    if task["kind"] not in {"ranking", "pairwise"}:
        return None
    ranks = person.rank(prompt, texts)
    asked = {field["name"] for field in task["response_fields"]}
    given = zip(person.likert(prompt, texts), person.flags(prompt, texts), strict=True)
    fields = [
        {n: v for n, v in {"likert": likert, **flags}.items() if n in asked}
        for likert, flags in given
    ]
    slots = [{"rank": r, "fields": f} for r, f in zip(ranks, fields, strict=True)]
    if task["kind"] == "ranking":
        return {"slots": slots}
    sign = (ranks[0] > ranks[1]) - (ranks[0] < ranks[1])
    return {"slots": slots, "choice": {-1: "first", 0: "tie", 1: "second"}[sign]}

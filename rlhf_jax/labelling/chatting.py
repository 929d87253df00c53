"""Free chat comparison: two models answer the same messages, side by side.

Their servers speak the chat completions protocol (`rlhf-jax serve` does). A batch
names them in `settings["models"]`: two objects with `url` (up to `/v1`), `model`, and
`key_variable`, the environment variable of a key, if they need one. The browser never
talks to them, and does not learn their names.
"""

import concurrent.futures
import json
import os
import urllib.error
import urllib.request
from typing import Any

import sqlalchemy as sa

from rlhf_jax.errors import InputError
from rlhf_jax.labelling import schema
from rlhf_jax.labelling.assignment import own_assignment
from rlhf_jax.labelling.refusals import Conflict
from rlhf_jax.labelling.store import Store
from rlhf_jax.labelling.tasks import clean_text

__all__ = ["converse"]

MAX_TURNS = 30
TIMEOUT = 120.0  # seconds that a model may take


def converse(store: Store, person: int, number: int, message: str) -> None:
    """Both models' replies to a message, stored as the next turn.

    Raises:
      Conflict: the task is closed, or another tab has sent a message meanwhile.
      InputError: a model does not answer; nothing is stored.
    """
    table = schema.chat_turns
    message = clean_text(message, "message")
    query = sa.select(table).where(table.c.assignments_id == number)
    with store.read() as connection:
        row = own_assignment(connection, person, number)
        before = connection.execute(query.order_by(table.c.number)).all()
    if row.state not in {"open", "expired"}:
        raise Conflict("This task is already answered, maybe in another tab.")
    if len(before) >= MAX_TURNS:
        raise InputError(f"chat: {MAX_TURNS} messages are the most")
    models = row.settings.get("models", [])
    if len(models) != 2:
        raise InputError("chat: this batch does not name two models")
    talks = [_messages(before, side, message) for side in range(2)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(_reply, models, talks))
    turn = {
        "assignments_id": number,
        "number": len(before) + 1,
        "message": message,
        "replies": replies,
    }
    try:
        with store.write() as connection:
            connection.execute(table.insert().values(**turn))
    except sa.exc.IntegrityError as error:
        raise Conflict("Another tab has sent a message. Please reload.") from error


def _messages(before: list[sa.Row], side: int, message: str) -> list[dict[str, str]]:
    found = []
    for turn in before:
        found.append({"role": "user", "content": turn.message})
        found.append({"role": "assistant", "content": turn.replies[side]})
    return [*found, {"role": "user", "content": message}]


def _reply(model: dict[str, Any], messages: list[dict[str, str]]) -> str:
    """What a model's server says.

    Raises:
      InputError: it cannot be reached or answers something else; its name is not told.
    """
    body = {"model": model.get("model", ""), "messages": messages}
    headers = {"Content-Type": "application/json"}
    if model.get("key_variable"):
        headers["Authorization"] = f"Bearer {os.environ.get(model['key_variable'], '')}"
    address = model["url"].rstrip("/") + "/chat/completions"
    if not address.startswith(("http://", "https://")):
        raise InputError("chat: a model's url is not http or https")
    request = urllib.request.Request(address, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
            found = json.load(reply)["choices"][0]["message"]["content"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError("chat: a model does not answer. Please try again.") from error
    if not isinstance(found, str):
        raise InputError("chat: a model answered with something that is no text")
    return found.encode("utf-8", "replace").decode()

"""Dialogues: messages with roles, and HH-RLHF's transcripts.

A record's prompt is one text. A single user message is its own text; a longer
dialogue is written as a transcript, in the manner of HH-RLHF, that ends where the
assistant is to speak. The messages themselves stay in `meta["messages"]`, for chat
templates.
"""

import re
from collections.abc import Iterator
from typing import Any

from rlhf_jax.data.records import Ranking
from rlhf_jax.data.rows import Row, RowError, as_dict, as_list, as_text

HUMAN, ASSISTANT = "\n\nHuman: ", "\n\nAssistant:"
SPEAKERS = {"system": "\n\nSystem: ", "user": HUMAN, "assistant": ASSISTANT + " "}
# what other people call the three roles
ROLES = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "developer": "system",
}


def transcript(messages: list[dict[str, str]]) -> str:
    """Messages as the prompt of the assistant's next turn.

    >>> transcript([{"role": "user", "content": "Hi"}])
    'Hi'
    >>> transcript([{"role": "user", "content": "Hi"},
    ...             {"role": "assistant", "content": "Hello!"},
    ...             {"role": "user", "content": "2+2?"}])
    '\\n\\nHuman: Hi\\n\\nAssistant: Hello!\\n\\nHuman: 2+2?\\n\\nAssistant:'
    """
    if len(messages) == 1 and messages[0]["role"] == "user":
        return messages[0]["content"]
    turns = [SPEAKERS[m["role"]] + m["content"] for m in messages]
    return "".join(turns) + ASSISTANT


def messages_of(value: Any, field: str) -> list[dict[str, str]]:
    """Checked messages, their roles in our words.

    Raises:
      RowError: no list of objects with a known role and a text.
    """
    found = []
    for i, item in enumerate(as_list(value, field)):
        message = as_dict(item, f"{field}[{i}]")
        role = message.get("role", message.get("from"))
        role = ROLES.get(role, role) if isinstance(role, str) else role
        if role not in SPEAKERS:
            expected = ", ".join(SPEAKERS)
            raise RowError(
                f"{field}[{i}].role", f"expected one of {expected}, got {role!r}"
            )
        content = message.get("content", message.get("value"))
        found.append(
            {"role": role, "content": as_text(content, f"{field}[{i}].content")}
        )
    return found


def hh_rankings(row: Row) -> Iterator[Ranking]:
    """HH-RLHF: `chosen` and `rejected` are two whole transcripts of one dialogue.

    The prompt is what both share up to the last assistant turn at which they part; in
    a few rows they part earlier, and then the responses run over several turns.
    """
    chosen, rejected = row.text("chosen"), row.text("rejected")
    cut = _parting(chosen, rejected)
    if cut is None:
        raise RowError(
            "rejected", "expected the same dialogue as in chosen, up to a reply"
        )
    responses = [text[cut:].lstrip(" ") for text in (chosen, rejected)]
    prompt = chosen[:cut]
    meta: dict[str, Any] = {}
    messages = transcript_messages(prompt)
    if messages:
        meta["messages"] = messages
    yield Ranking(
        id=row.name,
        prompt=prompt,
        responses=responses,
        ranks=[1, 2],
        group=row.name,
        source="hh-rlhf",
        meta=meta,
    )


def _parting(a: str, b: str) -> int | None:
    """The end of the last assistant marker that both texts have in the same place."""
    found = None
    for match in re.finditer(re.escape(ASSISTANT), a):
        if not b.startswith(a[: match.end()]):
            break
        found = match.end()
    return found


def transcript_messages(prompt: str) -> list[dict[str, str]]:
    """The messages of a transcript that waits for the assistant; [] if it is none."""
    if not prompt.endswith(ASSISTANT):
        return []
    parts = re.split(r"\n\n(Human|Assistant):", prompt)
    if parts[0].strip():
        return []
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = zip(parts[1::2], parts[2::2], strict=True)
    messages = [{"role": roles[who], "content": said.strip()} for who, said in turns]
    return messages[:-1]

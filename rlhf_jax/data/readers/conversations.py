"""Conversations as other people write them -> `Message`s.

Roles and contents go by many names; contents come as text or as a list of parts, calls
of tools as objects. A record's prompt is one text: a single user turn is its own text,
a longer dialogue is written as a transcript, in the manner of HH-RLHF, that ends where
the assistant is to speak.
"""

import json
from collections.abc import Sequence
from typing import Any

from rlhf_jax.data.records import Message
from rlhf_jax.data.rows import RowError, as_dict, as_list, as_text

__all__ = ["ROLES", "messages_of", "several_turns", "shared_beginning", "transcript"]

HUMAN, ASSISTANT = "\n\nHuman: ", "\n\nAssistant:"
SPEAKERS = {
    "system": "\n\nSystem: ",
    "user": HUMAN,
    "assistant": ASSISTANT + " ",
    "tool": "\n\nTool: ",
}
# what other people call the four roles
ROLES = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "function_call": "assistant",
    "developer": "system",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
}
TEXT_PARTS = ("text", "input_text", "output_text")
# what a turn may hold besides that would change what is said or trained
REFUSED = ("reasoning_content", "reasoning", "thinking", "images", "audio", "videos")


def transcript(messages: Sequence[Message]) -> str:
    """Messages as the prompt of the assistant's next turn.

    >>> transcript([Message(role="user", content="Hi")])
    'Hi'
    >>> transcript([Message(role="user", content="Hi"),
    ...             Message(role="assistant", content="Hello!"),
    ...             Message(role="user", content="2+2?")])
    '\\n\\nHuman: Hi\\n\\nAssistant: Hello!\\n\\nHuman: 2+2?\\n\\nAssistant:'
    """
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].text
    return "".join(SPEAKERS[m.role] + m.text for m in messages) + ASSISTANT


def several_turns(messages: Sequence[Message]) -> str:
    """The assistant's turn and what follows it, as it continues a transcript.

    >>> several_turns([Message(role="assistant", content="Hello!")])
    'Hello!'
    """
    first, *rest = messages
    return first.text + "".join(SPEAKERS[m.role] + m.text for m in rest)


def shared_beginning(
    a: Sequence[Message], b: Sequence[Message]
) -> tuple[list[Message], list[str]] | None:
    """The turns that two conversations share, and how each goes on with the assistant.

    None where they share no turn, or one of them has no turn of the assistant there.
    """
    same = 0
    while same < min(len(a), len(b)) and a[same] == b[same]:
        same += 1
    if same == min(len(a), len(b)):  # one goes on where the other ends, or both end
        same -= 1
    while same > 0 and a[same - 1].role == "assistant":
        same -= 1
    rests = (a[same:], b[same:])
    if same < 1 or any(rest[0].role != "assistant" for rest in rests):
        return None
    return list(a[:same]), [several_turns(rest) for rest in rests]


def messages_of(value: Any, field: str) -> list[Message]:
    """Checked messages, their roles in our words.

    Raises:
      RowError: no list of objects with a known role and a text.
    """
    items = as_list(value, field)
    return [_message(item, f"{field}[{i}]") for i, item in enumerate(items)]


def _message(item: Any, field: str) -> Message:
    given = {k: v for k, v in as_dict(item, field).items() if v is not None}
    for key in REFUSED:
        if given.get(key):
            raise RowError(f"{field}.{key}", "known, but of no use here; leave it out")
    role = given.get("role", given.get("from"))
    role = ROLES.get(role.lower(), role.lower()) if isinstance(role, str) else role
    if not isinstance(role, str) or role not in SPEAKERS:
        expected = ", ".join(SPEAKERS)
        raise RowError(f"{field}.role", f"expected one of {expected}, got {role!r}")
    calls = _calls(given, field)
    said = given.get("content", given.get("value", given.get("text")))
    return Message(
        role=role,
        content="" if said is None and calls else content_of(said, f"{field}.content"),
        weight=_weight(given, field),
        name=as_text(given["name"], f"{field}.name") if "name" in given else None,
        tool_calls=calls,
    )


def content_of(value: Any, field: str) -> str:
    """A content: text, or the text of a list of parts.

    Raises:
      RowError: a part that is no text, named by its type.
    """
    if not isinstance(value, list):
        return as_text(value, field)
    texts = []
    for i, part in enumerate(value):
        place = f"{field}[{i}]"
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = as_dict(part, place).get("type", "text")
        if kind not in TEXT_PARTS:
            raise RowError(place, f"expected a part of type text, got {kind!r}")
        texts.append(as_text(part.get("text"), f"{place}.text"))
    return "".join(texts)


def _calls(given: dict[str, Any], field: str) -> str | None:
    """The calls of tools in a turn, as JSON text."""
    calls = given.get("tool_calls") or given.get("function_call")
    if not calls or isinstance(calls, str):
        return calls or None
    if not isinstance(calls, list | dict):
        got = type(calls).__name__
        raise RowError(f"{field}.tool_calls", f"expected a list, got {got}")
    calls = calls if isinstance(calls, list) else [calls]
    return json.dumps(calls, ensure_ascii=False, default=str)


def _weight(given: dict[str, Any], field: str) -> float | None:
    """How much a turn counts: `weight`, or axolotl's `train`."""
    weight = given.get("weight", given.get("train"))
    if weight is None:
        return None
    if not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        raise RowError(f"{field}.weight", f"expected a number from 0, got {weight!r}")
    return float(weight)

"""What comes before a response, and records made of it.

Before a response stands a text, or a conversation: then its turns are kept beside the
text (`messages`), so that a chat template may be used.
"""

from collections.abc import Sequence
from typing import Any

from rlhf_jax.data.readers.conversations import messages_of, transcript
from rlhf_jax.data.records import Demonstration, Message, Prompt, Ranking, dense_ranks
from rlhf_jax.data.rows import Row, RowError, as_list, as_text
from rlhf_jax.data.strict_json import parsed

__all__ = [
    "Before",
    "asked",
    "before",
    "demonstration",
    "history_of",
    "opening",
    "ranked",
    "spoken",
    "with_system",
]

Before = str | list[Message]
SYSTEM = ("system", "system_prompt")


def opening(row: Row, asked: str) -> Before:
    """What a row's `system` and `history` put before the words of the user.

    `history` holds earlier turns: pairs of a question and its answer, or messages.
    """
    earlier = history_of(row.value["history"]) if row.has("history") else []
    turns = with_system(row, [*earlier, Message(role="user", content=asked)])
    return asked if len(turns) == 1 else turns


def with_system(row: Row, turns: list[Message]) -> list[Message]:
    """Turns behind the row's system prompt, where it has one.

    Raises:
      RowError: row and turns have different ones.
    """
    told = [row.text(key) for key in SYSTEM if row.has(key)]
    within = [turn.text for turn in turns if turn.role == "system"]
    if told and len({*told, *within}) > 1:
        raise RowError("system", "expected one system prompt, the row has several")
    if not told or within:
        return turns
    return [Message(role="system", content=told[0]), *turns]


def history_of(value: Any) -> list[Message]:
    """Earlier turns: pairs of texts, or messages, or either as JSON text."""
    if isinstance(value, str):
        try:
            value = parsed(value.encode())
        except RowError as error:
            raise RowError("history", f"expected a list: {error.why}") from error
    turns: list[Message] = []
    for i, item in enumerate(as_list(value, "history")):
        if isinstance(item, dict):
            turns += messages_of([item], f"history[{i}]")
            continue
        pair = as_list(item, f"history[{i}]")
        if len(pair) != 2:
            raise RowError(f"history[{i}]", f"expected a pair, got {len(pair)} items")
        for role, said in zip(("user", "assistant"), pair, strict=True):
            content = as_text(said, f"history[{i}]")
            turns.append(Message(role=role, content=content))
    return turns


def before(value: Any, field: str) -> Before:
    """A prompt: text, or the messages of a conversation."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        got = type(value).__name__
        raise RowError(field, f"expected text or a list of messages, got {got}")
    messages = messages_of(value, field)
    if not messages:
        raise RowError(field, "expected at least one message")
    return messages


def _said(before: Before) -> dict[str, Any]:
    """`prompt`, and `messages` where there is a conversation."""
    if isinstance(before, str):
        return {"prompt": before}
    return {"prompt": transcript(before), "messages": before}


def asked(before: Before, **fields: Any) -> Prompt:
    """A prompt without a response."""
    return Prompt(**_said(before), **fields)


def demonstration(
    before: Before, response: str | Message, **fields: Any
) -> Demonstration:
    """A response after a text or a conversation."""
    if isinstance(before, str):
        text = response if isinstance(response, str) else response.text
        return Demonstration(prompt=before, response=text, **fields)
    if isinstance(response, str):
        response = Message(role="assistant", content=response)
    said = {"prompt": transcript(before), "messages": [*before, response]}
    return Demonstration(response=response.text, **said, **fields)


def ranked(
    before: Before, responses: Sequence[str], ranks: Sequence[float], **fields: Any
) -> Ranking:
    """Responses with their ranks, the least best, written densely."""
    given = {"responses": list(responses), "ranks": dense_ranks(ranks)}
    return Ranking(**_said(before), **given, **fields)


def spoken(messages: Sequence[Message], field: str, **fields: Any):
    """A conversation that ends with the assistant is a demonstration, else a prompt."""
    if not messages:
        raise RowError(field, "expected at least one message")
    if messages[-1].role != "assistant":
        return asked(list(messages), **fields)
    if len(messages) < 2:
        raise RowError(field, "expected a message before the assistant's")
    return demonstration(list(messages[:-1]), messages[-1], **fields)

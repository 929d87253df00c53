"""HH-RLHF's transcripts, and ShareGPT's conversations."""

import os.path
import re
from collections.abc import Iterator

from rlhf_jax.data.readers.assembled import spoken, with_system
from rlhf_jax.data.readers.conversations import (
    ASSISTANT,
    messages_of,
)
from rlhf_jax.data.records import Demonstration, Message, Prompt, Ranking
from rlhf_jax.data.rows import Row, RowError


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
    yield Ranking(
        id=row.name,
        prompt=prompt,
        responses=responses,
        ranks=[1, 2],
        group=row.name,
        source="hh-rlhf",
        messages=transcript_messages(prompt) or None,
    )


def _parting(a: str, b: str) -> int | None:
    """The end of the last assistant marker that both texts have in the same place."""
    same = len(os.path.commonprefix([a, b]))
    found = a.rfind(ASSISTANT, 0, same)
    return None if found < 0 else found + len(ASSISTANT)


def transcript_messages(prompt: str) -> list[Message]:
    """The messages of a transcript that waits for the assistant; [] if it is none."""
    if not prompt.rstrip().endswith(ASSISTANT):
        return []
    parts = re.split(r"\n\n(Human|Assistant):", prompt)
    if parts[0].strip():
        return []
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = zip(parts[1::2], parts[2::2], strict=True)
    messages = [Message(role=roles[who], content=said.strip()) for who, said in turns]
    waiting = messages[:-1]
    return waiting if waiting and waiting[-1].role != "assistant" else []


def sharegpt(row: Row) -> Iterator[Demonstration | Prompt]:
    """ShareGPT: `conversations` of turns with `from` and `value`, and maybe `system`.

    Chats that people had with models come as one `conversation` in a row.

    Turns of the assistant before the first question, and turns behind its last answer,
    are left out and noted; a conversation without an answer is a prompt.
    """
    name = "conversation" if "conversation" in row.value else "conversations"
    turns = messages_of(row.value.get(name), name)
    if not turns:
        row.notes.append("empty conversation")
        return
    turns = _begun(row, turns)
    spoken_to = [i for i, turn in enumerate(turns) if turn.role == "assistant"]
    last = spoken_to[-1] + 1 if spoken_to else len(turns)
    if last < len(turns):
        row.notes.append("conversation that ends without an answer: its end left out")
    if not turns:
        row.notes.append("conversation without a question")
        return
    name = row.optional_text("id") or row.name
    turns = with_system(row, turns[:last])
    yield spoken(turns, "conversations", id=name, source=row.optional_text("source"))


def _begun(row: Row, turns: list[Message]) -> list[Message]:
    """Turns from the first question on."""
    system = [turn for turn in turns[:1] if turn.role == "system"]
    first = next((i for i, t in enumerate(turns) if t.role == "user"), len(turns))
    if first > len(system):
        row.notes.append("conversation that begins with an answer: it is left out")
    return [*system, *turns[first:]] if first < len(turns) else []

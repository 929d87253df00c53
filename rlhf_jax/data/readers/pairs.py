"""Rows with a chosen and a rejected response -> rankings of K = 2.

The responses are texts, single messages, or whole conversations; the prompt stands
beside them as text or messages, as `instruction` and `input`, as a ShareGPT
conversation, or in the conversations alone (TRL's implicit prompts).
"""

from typing import Any

from rlhf_jax.data.readers.assembled import (
    Before,
    before,
    opening,
    ranked,
    with_system,
)
from rlhf_jax.data.readers.conversations import (
    ROLES,
    messages_of,
    several_turns,
    shared_beginning,
    transcript,
)
from rlhf_jax.data.records import Message, Ranking
from rlhf_jax.data.rows import Row, RowError, as_number, as_text

__all__ = ["ASKED", "origin", "pair", "turns_or_text"]

ASKED = ("prompt", "instruction", "question", "input")
SCORES = (  # what people call the scores of the two
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"),
)
USES = {"chosen", "rejected", *ASKED, "system", "system_prompt", "history"}
USES |= {
    "conversations",
    "messages",
    "subset",
    "prompt_id",
    *(name for both in SCORES for name in both),
}
# ours, of other people's
SPLITS = {name: name for name in ("train", "valid", "test")}
SPLITS |= {"validation": "valid", "dev": "valid"}
SAID = "text or a list of messages"


def origin(row: Row) -> dict[str, Any]:
    """Where a row comes from, in the fields that TRL's types may have."""
    split = row.optional_text("split")
    return {
        "id": row.optional_text("id") or row.optional_text("prompt_id") or row.name,
        "use_case": row.optional_text("subset") or row.optional_text("use_case"),
        "split": SPLITS.get(split or ""),
        **{name: row.optional_text(name) for name in ("source", "user", "group")},
    }


def turns_or_text(value: Any, field: str) -> str | list[Message]:
    """A response: text, or messages; a single message may stand without its list."""
    if isinstance(value, dict):
        value = [value]
    said = before(value, field)
    if not isinstance(said, str) and said[-1].role != "assistant":
        raise RowError(field, "expected the assistant to speak last")
    return said


def pair(row: Row) -> Ranking:
    """The ranking of a row's `chosen` and `rejected`.

    Equal scores, where there are any, make a tie.

    Raises:
      RowError: one of both is missing; the conversations do not begin alike; prompt
        and conversations, or scores and names, contradict each other.
    """
    for key in ("chosen", "rejected"):
        if row.value.get(key) is None:
            raise RowError(key, f"missing, expected {SAID}")
    given = _given(row)
    others = row.value["rejected"]
    if isinstance(others, list) and others and isinstance(others[0], str):
        return _several(row, given, others)
    both = [turns_or_text(row.value[key], key) for key in ("chosen", "rejected")]
    if given is None:
        said, responses = _implicit(both)
        said = with_system(row, said)
    else:
        said, responses = _explicit(given, both)
    return ranked(said, responses, _ranks(row), **origin(row))


def _several(row: Row, given: Before | None, others: list[Any]) -> Ranking:
    """One chosen text and several rejected ones, which are tied behind it."""
    if given is None:
        raise RowError("prompt", f"missing, expected {SAID}")
    texts = [as_text(row.value["chosen"], "chosen")]
    texts += [as_text(text, f"rejected[{i}]") for i, text in enumerate(others)]
    for names in SCORES:
        if row.has(names[1]):
            raise RowError(names[1], "expected one rejected response, got several")
    return ranked(given, texts, [1] + [2] * len(others), **origin(row))


def _given(row: Row) -> Before | None:
    """The prompt that stands beside the responses."""
    if row.has("conversations"):
        turns = messages_of(row.value["conversations"], "conversations")
        return with_system(row, turns)
    names = [key for key in ASKED if row.value.get(key) is not None]
    if not names and waits(row.value):
        return with_system(row, messages_of(row.value["messages"], "messages"))
    if not names:
        return None
    said = before(row.value[names[0]], names[0])
    if not isinstance(said, str):
        if row.has("history"):
            raise RowError("history", "expected a prompt that is text behind it")
        return with_system(row, said)
    more = row.optional_text("input") if names[0] != "input" else None
    return opening(row, f"{said}\n\n{more}" if more and more.strip() else said)


def waits(value: dict[str, Any]) -> bool:
    """Whether a row's messages are those of a prompt, which the assistant has not yet
    answered."""
    turns = value.get("messages")
    last = turns[-1] if isinstance(turns, list) and turns else None
    role = last.get("role", last.get("from")) if isinstance(last, dict) else None
    return isinstance(role, str) and ROLES.get(role, role) != "assistant"


def _explicit(given: Before, both: list) -> tuple[Before, list[str]]:
    """The prompt, and the responses to it alone."""
    if all(isinstance(said, list) and said[0].role != "assistant" for said in both):
        said, responses = _implicit(both)
        if not _agree(given, said):
            raise RowError("prompt", "differs from the turns before chosen's last")
        return said, responses
    texts = []
    for name, said in zip(("chosen", "rejected"), both, strict=True):
        if not isinstance(said, str) and said[0].role != "assistant":
            raise RowError(name, "expected text or turns of the assistant")
        texts.append(said if isinstance(said, str) else several_turns(said))
    return given, texts


def _agree(given: Before, turns: list[Message]) -> bool:
    """Whether a prompt is what a conversation says, its system prompt aside."""
    if isinstance(given, str):
        asked = [turn.text.strip() for turn in turns if turn.role == "user"]
        return given.strip() in (*asked, transcript(turns).strip())
    return given == turns or given == [m for m in turns if m.role != "system"]


def _implicit(both: list) -> tuple[Before, list[str]]:
    """Two conversations that part where the assistant speaks."""
    for name, said in zip(("chosen", "rejected"), both, strict=True):
        if isinstance(said, str):
            raise RowError(name, "expected a list of messages, got str")
    shared = shared_beginning(*both)
    if shared is None:
        raise RowError(
            "rejected", "expected the messages of chosen, up to the assistant's"
        )
    return shared


def _ranks(row: Row) -> list[int]:
    """1, 2; or 1, 1 where the two have one score."""
    for names in SCORES:
        if all(row.has(name) for name in names):
            chosen, rejected = (as_number(row.value[n], n) for n in names)
            if chosen < rejected:
                why = f"{rejected:g} is over {names[0]} {chosen:g}"
                raise RowError(names[1], why)
            return [1, 1] if chosen == rejected else [1, 2]
    return [1, 2]

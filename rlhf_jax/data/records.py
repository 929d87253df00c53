"""The four kinds of record that everything else is made of.

A record is one line of JSON and one frozen pydantic model. The models are strict: an
integer is not a string, 1.0 is not a rank, an unknown field is an error. What a
*file* may hold besides (blank lines, unknown fields, other people's formats) is the
business of `rows` and `readers`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

__all__ = [
    "FLAG_NAMES",
    "KINDS",
    "MAX_K",
    "Demonstration",
    "Message",
    "Prompt",
    "Ranking",
    "Record",
    "Text",
    "competition_ranks",
    "dense_ranks",
    "stable_id",
    "untied_count",
    "untied_pairs",
]

# Ouyang et al. 2022, Table 3: the yes/no questions asked about each output.
FLAG_NAMES = (
    "fails_instruction",
    "inappropriate_for_assistant",
    "hallucination",
    "satisfies_constraint",
    "sexual_content",
    "violent_content",
    "encourages_harm",
    "denigrates_protected_class",
    "harmful_advice",
    "expresses_opinion",
    "moral_judgment",
)
MAX_K = 9  # §3.5: labelers rank between K = 4 and K = 9 outputs


def dense_ranks(ranks: Iterable[float]) -> list[int]:
    """The same order and ties, written 1, 2, 2, 3.

    >>> dense_ranks([0, 7, 7, 9])
    [1, 2, 2, 3]
    """
    ranks = list(ranks)
    place = {rank: i + 1 for i, rank in enumerate(sorted(set(ranks)))}
    return [place[rank] for rank in ranks]


def competition_ranks(ranks: Iterable[float]) -> list[int]:
    """The same order and ties, written 1, 2, 2, 4: one more than are strictly better.

    >>> competition_ranks([0, 7, 7, 9])
    [1, 2, 2, 4]
    """
    ranks = list(ranks)
    place: dict[float, int] = {}
    for at, rank in enumerate(sorted(ranks), 1):
        place.setdefault(rank, at)
    return [place[rank] for rank in ranks]


def untied_count(ranks: Sequence[float]) -> int:
    """How many pairs are not tied, without making them.

    >>> untied_count([2, 1, 2])
    2
    """
    tied = sum(n * (n - 1) // 2 for n in Counter(ranks).values())
    return len(ranks) * (len(ranks) - 1) // 2 - tied


def untied_pairs(ranks: list[int]) -> list[tuple[int, int]]:
    """(winner, loser) for every pair of responses that is not tied.

    >>> untied_pairs([2, 1, 2])
    [(1, 0), (1, 2)]
    """
    return [
        (i, j)
        for i in range(len(ranks))
        for j in range(len(ranks))
        if ranks[i] < ranks[j]
    ]


def stable_id(*parts: str) -> str:
    """16 hex digits that depend on the parts alone: an id for rows that have none."""
    joined = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).hexdigest()[:16]


def _encodable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("half of a surrogate pair") from error
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("expected text, got only white space")
    return text


Clean = Annotated[str, AfterValidator(_encodable)]
Filled = Annotated[Clean, AfterValidator(_not_blank)]
KINDS = ("plain", "few-shot", "user-based")


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("expected text, got a NUL character")
    return text


Said = Annotated[Clean, AfterValidator(_without_nul)]


class Message(BaseModel):
    """One turn of a conversation.

    Args:
      role: who speaks.
      content: what is said; empty where a turn is a call of tools alone.
      weight: how much a turn of the assistant counts in training; 1 when None, 0 is
        not trained.
      name: of the speaker or the tool, where the source has one.
      tool_calls: the calls of the turn, as the JSON text of the source's list.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant", "tool"]
    content: Said
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    name: Said | None = None
    tool_calls: Said | None = None

    @property
    def text(self) -> str:
        """The turn as text: what is said, then the calls of tools."""
        return "\n".join(part for part in (self.content, self.tool_calls) if part)


def _waits(messages: list[Message] | None) -> list[Message] | None:
    """Refuses a conversation in which the assistant is not the next to speak."""
    if messages is not None and (not messages or messages[-1].role == "assistant"):
        raise ValueError("expected turns that wait for the assistant's")
    return messages


Waiting = Annotated[list[Message] | None, AfterValidator(_waits)]


class Record(BaseModel):
    """What all four kinds share: where a row comes from and where it belongs.

    `id` names the row and is unique within its file. `group` names what must never be
    torn apart by a split into train, valid and test (an organisation, a dialogue);
    where it is absent, `user` does, and then `id` (`split_key`).
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    id: Filled
    user: str | None = None
    split: Literal["train", "valid", "test"] | None = None
    group: str | None = None
    use_case: str | None = None
    kind: Literal["plain", "few-shot", "user-based"] = "plain"
    source: str | None = None
    meta: dict[str, Any] = Field(default_factory=dict)

    @property
    def split_key(self) -> str:
        """The name whose hash decides the split."""
        return self.group or self.user or self.id


class Demonstration(Record):
    """A prompt and the response that a person wrote for it: one row of SFT data.

    Args:
      prompt: all before the last response, as one text.
      response: the last response.
      messages: where the source is a conversation, all its turns; the last one is the
        assistant's, and its text is `response`.
    """

    prompt: Filled
    response: Filled
    messages: list[Message] | None = None

    @field_validator("messages")
    @classmethod
    def _answered(cls, messages: list[Message] | None, known) -> list[Message] | None:
        if messages is None:
            return None
        if len(messages) < 2 or messages[-1].role != "assistant":
            raise ValueError("expected turns of which the assistant's is the last")
        if messages[-1].text != known.data.get("response", messages[-1].text):
            raise ValueError("expected the last turn to be the response")
        return messages


class Prompt(Record):
    """A prompt without a response: one row of PPO data.

    `messages` are the turns before the response, where the source is a conversation.
    """

    prompt: Filled
    messages: Waiting = None


class Text(Record):
    """Running text without a prompt: one document of the pretraining mix."""

    text: Filled


class Ranking(Record):
    """K responses to one prompt, ranked by one labeler: one row of reward data.

    `ranks[k]` belongs to `responses[k]`; 1 is best, equal numbers are ties. Ties may
    be counted densely (1, 2, 2, 3) or as in a competition (1, 2, 2, 4). An empty
    response is allowed, since a model may well have said nothing.

    Args:
      responses: K ≥ 2 texts, in the order in which they were made.
      ranks: K whole numbers.
      likert: overall quality of each response, 1 to 7.
      flags: yes/no answers about each response, by the names in `FLAG_NAMES`.
      labeler: who ranked.
      shown_order: `shown_order[slot]` is the index of the response displayed there.
      seconds: time on task.
      guideline: the version of the instructions in force.
      messages: the turns before the responses, where the source is a conversation.
    """

    prompt: Filled
    responses: list[Clean] = Field(min_length=2)
    ranks: list[int]
    likert: list[Annotated[int, Field(ge=1, le=7)]] | None = None
    flags: list[dict[str, bool]] | None = None
    labeler: str | None = None
    shown_order: list[int] | None = None
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    guideline: str | None = None
    messages: Waiting = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        k = len(self.responses)
        for name in ("ranks", "likert", "flags", "shown_order"):
            value = getattr(self, name)
            if value is not None and len(value) != k:
                raise ValueError(
                    f"{name}: expected {k} entries, one per response, got {len(value)}"
                )
        dense = dense_ranks(self.ranks)
        if self.ranks not in (dense, competition_ranks(self.ranks)):
            raise ValueError(
                f"ranks: expected 1 for the best and no gaps, got {self.ranks}; "
                f"the same order is written {dense}"
            )
        if self.shown_order is not None and sorted(self.shown_order) != list(range(k)):
            raise ValueError(
                f"shown_order: expected each of 0..{k - 1} once, got {self.shown_order}"
            )
        return self

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(winner, loser) of every pair that is not tied, at most C(K, 2)."""
        return untied_pairs(self.ranks)

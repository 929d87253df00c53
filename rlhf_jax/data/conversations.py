"""The form in which a model reads conversations, one for all that it is used for.

template    the tokenizer's chat template (`templates`)
transcript  Human: .. Assistant: .., for models without one
plain       the prompt as it stands; no conversation but a single question

A form turns messages into ids for generation (`prompt_ids`), for training
(`training_ids`) and for scoring (`response_ids`); the ids before an answer are the
same in all three.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from rlhf_jax.data.control_tokens import character_spans
from rlhf_jax.data.readers.conversations import ASSISTANT, SPEAKERS, transcript
from rlhf_jax.data.records import Message
from rlhf_jax.data.tokenizers import Tokenizer
from rlhf_jax.errors import InputError

__all__ = [
    "FORMS",
    "ConversationForm",
    "PlainForm",
    "TranscriptForm",
    "conversation_form",
    "default_form",
    "require_form",
]

FORMS = ("template", "transcript", "plain")
TURNS = ("all", "last")
# who may speak: no other word, lest `<|{{ role }}|>` spell some other control token
ROLES = {"system", "developer", "user", "assistant", "tool", "function", "ipython"}
Said = str | Sequence[Any]  # a prompt, or messages


class ConversationForm(Protocol):
    """What every form does.

    Attributes:
      name: one of `FORMS`.
      tokenizer: whose ids these are.
      end_tokens: the ids that end an answer in generation.
    """

    name: str
    tokenizer: Tokenizer
    end_tokens: tuple[int, ...]

    def prompt_ids(self, said: Said) -> list[int]:
        """The ids up to where the assistant is to speak."""

    def response_ids(
        self, said: Said, response: str, *, closed: bool = True
    ) -> list[int]:
        """The ids of an answer to `said`, closed as the form closes a turn, or open."""

    def training_ids(
        self, messages: Sequence[Any], train_turns: Literal["all", "last"] = "all"
    ) -> tuple[list[int], list[float]]:
        """The ids of a whole conversation, and how much each counts in training."""

    def text(self, said: Said, *, answer: bool = True) -> str:
        """The text behind `prompt_ids`, for eyes; `answer`: the turn is opened."""


def conversation_form(name: str, tokenizer: Tokenizer) -> ConversationForm:
    """The form of a name.

    Args:
      name: one of `FORMS`.
      tokenizer: of the model.

    Raises:
      InputError: no such form, or "template" where the tokenizer has none.
    """
    if name == "template":
        from rlhf_jax.data.templates import TemplateForm

        return TemplateForm(tokenizer)
    if name not in FORMS:
        raise InputError(f"form {name!r}: expected one of {', '.join(FORMS)}")
    return {"transcript": TranscriptForm, "plain": PlainForm}[name](tokenizer)


def default_form(tokenizer: Tokenizer, *, conversations: bool) -> str:
    """The form of a model of which nobody said which.

    Args:
      tokenizer: of the model.
      conversations: whether its records hold messages.
    """
    if not conversations:
        return "plain"
    return "template" if tokenizer.chat_template else "transcript"


def require_form(of_model: str, asked: str | None, where: str) -> str:
    """The model's form, which is not another than the one asked for.

    Args:
      of_model: the form the model was trained in.
      asked: what a config or a command says; None: nothing.
      where: names the model in the error.

    Raises:
      InputError: they differ.
    """
    if asked is not None and asked != of_model:
        raise InputError(
            f"{where}: reads conversations as {of_model!r}, asked for is {asked!r}: "
            "train it in that form, or leave the setting out"
        )
    return of_model


@dataclass(frozen=True)
class PlainForm:
    """The prompt as it stands, the begin token first where the model has one."""

    tokenizer: Tokenizer
    name = "plain"

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """The ids that end an answer in generation."""
        return tuple(self.tokenizer.end_tokens)

    def prompt_ids(self, said: Said) -> list[int]:
        """The ids up to where the assistant is to speak."""
        begin = self.tokenizer.begin_token
        return [*([] if begin is None else [begin]), *self._ids(self.text(said))]

    def response_ids(
        self, said: Said, response: str, *, closed: bool = True
    ) -> list[int]:
        """The ids of an answer and the end token; the same whatever was said."""
        end = [self.tokenizer.end_token] if closed else []
        return [*self._ids(response), *end]

    def training_ids(
        self, messages: Sequence[Any], train_turns: str = "all"
    ) -> tuple[list[int], list[float]]:
        """The ids of prompt and answer, and the weight of each: 0 before the answer.

        Raises:
          InputError: the conversation does not end with the assistant, or has no
            plain form.
        """
        spoken = checked(messages)
        weights = trained_turns(spoken, train_turns)
        if spoken[-1]["role"] != "assistant":
            raise InputError("conversation: expected the assistant to speak last")
        prompt = self.prompt_ids(spoken[:-1])
        response = self.response_ids(spoken[:-1], _said(spoken[-1]))
        last = weights.get(len(spoken) - 1, 0.0)
        return prompt + response, [0.0] * len(prompt) + [last] * len(response)

    def text(self, said: Said, *, answer: bool = True) -> str:
        """The prompt.

        Raises:
          InputError: more than one message.
        """
        if isinstance(said, str):
            return said
        messages = checked(said)
        if len(messages) != 1 or messages[0]["role"] != "user":
            roles = ", ".join(message["role"] for message in messages)
            raise InputError(
                f"conversation ({roles}): the form 'plain' holds a single question: "
                "expected the form 'template' or 'transcript'"
            )
        return _said(messages[0])

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer.encode_batch([text])[0]


@dataclass(frozen=True)
class TranscriptForm(PlainForm):
    """A dialogue in the manner of HH-RLHF; a single question is its own text."""

    name = "transcript"

    def text(self, said: Said, *, answer: bool = True) -> str:
        """The transcript, ending where the assistant is to speak."""
        if isinstance(said, str):
            return said
        turns = [
            Message.model_construct(role=m["role"], content=_said(m), tool_calls=None)
            for m in checked(said)
        ]
        text = transcript(turns)
        return text if answer else text.removesuffix(ASSISTANT)

    def training_ids(
        self, messages: Sequence[Any], train_turns: str = "all"
    ) -> tuple[list[int], list[float]]:
        """As `PlainForm`; earlier turns of the assistant are trained too.

        An earlier turn is what stands between its marker and the next; it has no end
        token, because the prompt of the turn after it has none there.
        """
        spoken = checked(messages)
        ids, weights = super().training_ids(spoken, train_turns)
        early = trained_turns(spoken, train_turns)
        early.pop(len(spoken) - 1, None)
        if early:
            found = list(self._early(spoken, early))
            weights[: len(found)] = found
        return ids, weights

    def _early(self, messages, early: dict[int, float]) -> Iterator[float]:
        """The weight of each token of the prompt: those whole in an early turn."""
        edges, place = [], 0
        for i, message in enumerate(messages[:-1]):
            marker = SPEAKERS[message["role"]]
            start = place + len(marker.rstrip(" "))
            place += len(marker) + len(_said(message))
            edges += [(start, place, early[i])] if i in early else []
        if self.tokenizer.begin_token is not None:
            yield 0.0
        for first, last in character_spans(self.tokenizer, self.text(messages[:-1])):
            inside = [w for start, end, w in edges if start <= first and last <= end]
            yield inside[0] if inside else 0.0


def checked(messages: Iterable[Any]) -> list[dict[str, Any]]:
    """Messages as plain dicts, as templates read them.

    Args:
      messages: dicts, or `Message`s, whose calls of tools are JSON text.

    Raises:
      InputError: no message, an unknown role, a content that is no text, calls that
        are no JSON, or a weight that is no number from 0.
    """
    found = [_checked(message, f"messages[{i}]") for i, message in enumerate(messages)]
    if not found:
        raise InputError("conversation: expected at least one message")
    return found


def _checked(message: Any, where: str) -> dict[str, Any]:
    if isinstance(message, Message):
        message = message.model_dump()
    if not isinstance(message, dict):
        raise InputError(f"{where}: expected role and content")
    found = {key: value for key, value in message.items() if value is not None}
    if found.get("role") not in ROLES:
        expected = ", ".join(sorted(ROLES))
        raise InputError(
            f"{where}.role: expected one of {expected}, got {found.get('role')!r}"
        )
    if isinstance(found.get("tool_calls"), str):
        try:
            found["tool_calls"] = json.loads(found["tool_calls"])
        except ValueError as error:
            raise InputError(f"{where}.tool_calls: expected JSON: {error}") from None
    content = found.setdefault("content", "" if found.get("tool_calls") else None)
    if not isinstance(content, str):
        got = str(content)[:60]
        raise InputError(f"{where}.content: expected text, got {got!r}")
    weight = found.get("weight", 1.0)
    if not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        raise InputError(f"{where}.weight: expected a number from 0, got {weight!r}")
    return found


def _said(message: dict[str, Any]) -> str:
    """The turn as text: what is said, then the calls of tools."""
    calls = message.get("tool_calls")
    text = json.dumps(calls, ensure_ascii=False) if calls else ""
    return "\n".join(part for part in (message["content"], text) if part)


def trained_turns(
    messages: Sequence[dict[str, Any]], train_turns: str
) -> dict[int, float]:
    """The weights of the turns that are trained: the assistant's, by their number.

    Args:
      messages: checked.
      train_turns: "all", or "last": the last turn of the assistant alone.

    Raises:
      InputError: another word, or a conversation without an assistant.
    """
    if train_turns not in TURNS:
        raise InputError(f"train_turns {train_turns!r}: expected 'all' or 'last'")
    turns = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
    if not turns:
        raise InputError("conversation: expected a message of the assistant")
    wanted = turns if train_turns == "all" else turns[-1:]
    weights = {i: float(messages[i].get("weight", 1.0)) for i in wanted}
    return {i: weight for i, weight in weights.items() if weight > 0}

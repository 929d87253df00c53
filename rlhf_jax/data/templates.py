"""Conversations in a model's chat template, as ids, and what of them is trained.

Where an assistant's turn begins and ends is found by rendering: the conversation up to
the turn with the turn opened, and with the turn. What the second has more than the
first, up to the token that closes it, is what the model is to say. A template that
writes the turn otherwise in the whole conversation is refused for that turn, and
`{% generation %}` blocks say it themselves.
"""

import functools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_jax.data.control_tokens import Disguise, encoder_of
from rlhf_jax.data.conversations import Said, checked, trained_turns
from rlhf_jax.data.rendering import Rendering, refusal
from rlhf_jax.data.tokenizers import Tokenizer
from rlhf_jax.errors import InputError

__all__ = ["TemplateForm"]

PROBE = ("Question", "Answer", "Further")  # plain words, which no template changes
GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


@dataclass(frozen=True)
class Closing:
    """How a template ends a turn of the assistant.

    Attributes:
      text: from the end of what is said to the end of the control token, in the last
        turn of a conversation; "" where there is no control token.
      after: what follows it there.
      mark: the control token; "" where there is none.
    """

    text: str
    after: str
    mark: str


@dataclass(frozen=True)
class Layout:
    """A rendered conversation.

    Attributes:
      text: as the template wrote it, what was typed still hidden.
      spans: where each of the assistant's turns stands in it, by the number of its
        message; None: nowhere that it could be said after its own prompt.
      disguise: puts back what was typed.
    """

    text: str
    spans: dict[int, tuple[int, int] | None]
    disguise: Disguise


class TemplateForm:
    """The form "template": see `ConversationForm`.

    Args:
      tokenizer: with a chat template.
      tools: JSON schemas of functions that the conversations may call.
      documents: dicts with "title" and "text".
      **settings: `now`, and further variables of the template, such as
        `enable_thinking`.

    Raises:
      InputError: the tokenizer has no chat template.
    """

    name = "template"

    def __init__(
        self,
        tokenizer: Tokenizer,
        tools: Sequence[dict] | None = None,
        documents: Sequence[dict] | None = None,
        *,
        now=None,
        **settings: Any,
    ):
        if not tokenizer.chat_template:
            raise InputError(
                "chat template: expected the tokenizer to have one "
                "(tokenizer_config.json: chat_template), it has none"
            )
        self.tokenizer = tokenizer
        self._encoder = encoder_of(tokenizer)
        self.template = tokenizer.tool_template if tools else tokenizer.chat_template
        self._inputs = {"tools": tools, "documents": documents}
        self._variables = {**tokenizer.named_tokens, **settings}
        self._now = now

    @functools.cached_property
    def end_tokens(self) -> tuple[int, ...]:
        """The token with which the template closes a turn, then the tokenizer's."""
        closing = self.tokenizer.special_tokens.get(self.closing.mark)
        own = [] if closing is None else [closing]
        return tuple(dict.fromkeys([*own, *self.tokenizer.end_tokens]))

    def prompt_ids(self, said: Said) -> list[int]:
        """The ids up to where the assistant is to speak, as `apply_chat_template`'s."""
        layout = self._layout(_messages(said), opened=True)
        return self._encoded(layout, {})[0]

    def response_ids(
        self, said: Said, response: str, *, closed: bool = True
    ) -> list[int]:
        """The ids of an answer to `said` and of the token that closes it.

        Args:
          said: what is answered.
          response: the answer.
          closed: False: without what closes the turn.

        Raises:
          InputError: the template closes a turn with no token.
        """
        answer = {"role": "assistant", "content": response}
        messages = [*_messages(said), answer]
        layout = self._layout(messages, opened=False)
        start, end = self._span(layout, len(messages) - 1, messages)
        controls = list(self._encoder.names.pattern.finditer(layout.text, 0, start))
        begin = controls[-1].start() if controls else 0
        turn = layout.text[start:end]
        stop = len(turn) if closed else len(turn.removesuffix(self.closing.text))
        pieces = [layout.text[begin:start], turn[:stop], turn[stop:]]
        ids, places = self._encoder.encode(pieces, layout.disguise.show, [1])
        kept = (1, 2) if closed else (1,)
        return [i for i, place in zip(ids, places, strict=True) if place in kept]

    def training_ids(
        self, messages: Sequence[Any], train_turns: str = "all"
    ) -> tuple[list[int], list[float]]:
        """The ids of a conversation, as `apply_chat_template`'s, and their weights.

        Args:
          messages: with "role", "content" and whatever the template reads; "weight" 0
            leaves a turn out.
          train_turns: "all" of the assistant's turns or the "last" one.

        Returns:
          (ids, weights): 0 but on what the assistant says and on the token that closes
          its turn; there the turn's own weight, 1 where it has none. Only where one of
          transformers' tokens stands across the beginning of a turn do the ids differ
          from theirs: the turn is then encoded as it is in use, behind its prompt.

        Raises:
          InputError: the template refuses the conversation, or writes a turn that is
            to be trained otherwise than behind its own prompt.
        """
        spoken = checked(messages)
        turns = trained_turns(spoken, train_turns)
        layout = self._layout(spoken, opened=False)
        for turn in turns:
            self._span(layout, turn, spoken)
        return self._encoded(layout, turns)

    def text(self, said: Said, *, answer: bool = True) -> str:
        """What the template writes, for eyes; `answer`: the turn is opened."""
        layout = self._layout(_messages(said), opened=answer, spans=False)
        return layout.disguise.show(layout.text)

    def _encoded(self, layout: Layout, trained: dict[int, float]):
        """(ids, weights); the ids before each turn are those of its prompt."""
        pieces, cuts, weights, place = [], [], [], 0
        control = re.compile(rf"(?:{self._encoder.names.pattern.pattern})\Z")
        for turn, span in sorted(layout.spans.items()):
            if span is None:
                continue
            said = layout.text[span[0] : span[1]]
            pieces += [layout.text[place : span[0]], said]
            weights += [0.0, trained.get(turn, 0.0)]
            cuts.append(len(pieces) - 1)
            if turn in trained and not control.search(said):
                cuts.append(len(pieces))  # no token may reach beyond what is trained
            place = span[1]
        pieces.append(layout.text[place:])
        weights.append(0.0)
        ids, places = self._encoder.encode(pieces, layout.disguise.show, cuts)
        return ids, [weights[place] for place in places]

    def _layout(self, messages, opened: bool, spans: bool = True) -> Layout:
        """The conversation rendered, with the places of the assistant's turns."""
        said = [{k: v for k, v in m.items() if k != "weight"} for m in messages]
        disguise = Disguise(self._encoder.names, [said, self._inputs])
        hidden = [{**disguise.hide(m), "role": m["role"]} for m in said]
        rendering = self._rendering(disguise)
        turns = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
        whole = (len(messages), opened)
        if not spans:
            return Layout(rendering.texts(hidden, [whole])[0], {}, disguise)
        if GENERATION.search(self.template):
            text = rendering.texts(hidden, [whole], disguise.marks)[0]
            text, blocks = _blocks(text, disguise.marks)
            alike = len(blocks) == len(turns)  # else which is whose would be a guess
            blocks = blocks if alike else [None] * len(turns)
            places = dict(zip(turns, blocks, strict=True))
            return Layout(text, places, disguise)
        takes = [take for i in turns for take in ((i, True), (i + 1, False))]
        (text, problem), *found = rendering.attempts(hidden, [whole, *takes])
        if text is None:
            raise refusal(problem)
        pairs = zip(found[::2], found[1::2], strict=True)
        places = {
            turn: self._place(text, before, after)
            for turn, ((before, _), (after, _)) in zip(turns, pairs, strict=True)
        }
        return Layout(text, places, disguise)

    def _rendering(self, disguise: Disguise | None = None) -> Rendering:
        hide = disguise.hide if disguise else lambda value: value
        inputs = {name: hide(value) for name, value in self._inputs.items()}
        return Rendering(self.template, self._variables, **inputs, now=self._now)

    def _place(self, text, before: str | None, after: str | None):
        """Where a turn stands in the whole text: (start, end), or None.

        Args:
          text: the whole conversation.
          before: up to the turn, opened; None: the template refuses that.
          after: up to the turn, with it.
        """
        if before is None or after is None or not after.startswith(before):
            return None
        if not text.startswith(before):
            return None
        start, closing = len(before), self.closing
        said = after[start:]
        end = said.rfind(closing.mark) if closing.mark else -1
        if end >= 0:
            said = said[: end + len(closing.mark)]
        elif closing.after:
            said = said.removesuffix(closing.after)
        if not text.startswith(said, start):  # closed otherwise than a last turn
            said = said.removesuffix(closing.text)
        return (start, start + len(said)) if text.startswith(said, start) else None

    @functools.cached_property
    def closing(self) -> Closing:
        """How the template ends a turn, seen on a conversation of three words."""
        question, answer, further = PROBE
        probe = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
            {"role": "user", "content": further},
        ]
        last, middle = self._probed(probe)
        if answer not in last or answer not in middle:
            raise InputError("chat template: writes nothing of what the assistant says")
        tails = [text[text.rindex(answer) + len(answer) :] for text in (last, middle)]
        common = os.path.commonprefix(tails)
        found = self._encoder.names.pattern.search(common)
        found = found or self._encoder.names.pattern.search(tails[0])
        if found is None:
            return Closing("", tails[0], "")
        end = found.end()
        return Closing(tails[0][:end], tails[0][end:], found.group())

    def _probed(self, probe: list[dict[str, Any]]) -> list[str]:
        """A conversation up to its answer, and whole; behind a system prompt where the
        template wants one."""
        rendering = Rendering(self.template, self._variables, now=self._now)
        found: list[tuple] = []
        for before in ([], [{"role": "system", "content": "Guide"}]):
            takes = [(len(before) + count, False) for count in (2, 3)]
            found += rendering.attempts([*before, *probe], takes)
            if all(text is not None for text, _ in found[-2:]):
                return [text for text, _ in found[-2:]]
        raise refusal(next(problem for text, problem in found if text is None))

    def _span(self, layout: Layout, turn: int, messages) -> tuple[int, int]:
        """Where a turn stands that is to be trained or scored."""
        span, last = layout.spans.get(turn), turn == len(messages) - 1
        if span is None and GENERATION.search(self.template):
            raise InputError(
                "chat template: expected one {% generation %} block for each turn of "
                f"the assistant, of which there are {len(layout.spans)}"
            )
        if span is None:
            remedy = "" if last else "; train_turns='last' trains the last turn alone"
            raise InputError(
                f"chat template: writes messages[{turn}] otherwise in the whole "
                f"conversation than behind the prompt it is an answer to{remedy}"
            )
        if last and not self.closing.mark:
            raise InputError(
                "chat template: closes the assistant's turn with no control token: a "
                "model trained on it could not learn to stop"
            )
        return span


def _messages(said: Said) -> list[dict[str, Any]]:
    return checked(
        [{"role": "user", "content": said}] if isinstance(said, str) else said
    )


def _blocks(text: str, marks: tuple[str, str]):
    """The text without marks, and where what they enclose stands in it."""
    pieces, blocks, place, start = [], [], 0, 0
    for piece in re.split(f"([{''.join(marks)}])", text):
        if piece == marks[0]:
            start = place
        elif piece == marks[1]:
            blocks.append((start, place))
        else:
            pieces.append(piece)
            place += len(piece)
    return "".join(pieces), blocks

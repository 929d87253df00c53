"""Control tokens in rendered conversations: the template's own, and nobody else's.

Before a template reads a conversation, what its texts say of control tokens is hidden
behind private-use characters; whatever control token stands in the rendered text was
written by the template. Each is then handed to the tokenizer as a private added token
with the same rules (whether it swallows the white space beside it), so that the text
is encoded whole, as transformers encodes it, while what people typed stays text.
"""

import bisect
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from rlhf_jax.data.tokenizers import (
    ByteTokenizer,
    SubwordTokenizer,
    Tokenizer,
    copied,
)
from rlhf_jax.errors import InputError

__all__ = ["Disguise", "MarkedEncoder", "Names", "character_spans", "encoder_of"]

FIRST = 0xF0000  # of the private-use characters


class Names:
    """What the control tokens are called, and the beginnings and ends of that."""

    def __init__(self, names: Iterable[str]):
        self.whole = sorted(names, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, self.whole)) or r"(?!)")
        cut = [(n[:i], n[i:]) for n in self.whole for i in range(1, len(n))]
        self._tails = {tail for tail, _ in cut if not tail.isalnum()}
        self._heads = {head for _, head in cut if not head.isalnum()}
        self._longest = max(map(len, self.whole), default=0)

    def head(self, text: str) -> int | None:
        """Where a text begins that begins with the end of a name."""
        start = len(text) - len(text.lstrip())
        ends = range(start + 1, min(len(text), start + self._longest) + 1)
        return start if any(text[start:end] in self._heads for end in ends) else None

    def tail(self, text: str) -> int | None:
        """Where the beginning of a name stands that a text ends with."""
        text = text.rstrip()
        starts = range(max(0, len(text) - self._longest), len(text))
        return next((start for start in starts if text[start:] in self._tails), None)


class Disguise:
    """Stand-ins for the control tokens that the texts of a conversation spell.

    The end of one text and the beginning of what follows could spell one together, so
    a text's head or tail that is part of a control token is broken as well.

    Args:
      names: of the control tokens.
      value: messages, tools, documents: every text in it is looked through.
    """

    def __init__(self, names: Names, value: Any):
        texts = list(_texts(value))
        free = unused("".join(texts))
        self.marks = (next(free), next(free))  # for `{% generation %}`
        self._names, self._free = names, free
        self._stand_in: dict[str, str] = {}

    def hide(self, value: Any) -> Any:
        """The value with its texts hidden; what needs no hiding stays as it is."""
        if isinstance(value, str):
            text = self._hide_names(value)
            for edge in (self._names.head, self._names.tail):
                place = edge(text)
                if place is not None:
                    broken = self._hidden(text[place])
                    text = text[:place] + broken + text[place + 1 :]
            return text
        if isinstance(value, dict):
            return {
                self._hide_names(key): self.hide(item) for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.hide(item) for item in value]
        return value

    def _hide_names(self, text: str) -> str:
        return self._names.pattern.sub(lambda m: self._hidden(m.group()), text)

    def _hidden(self, text: str) -> str:
        if text not in self._stand_in:
            self._stand_in[text] = next(self._free)
        return self._stand_in[text]

    def show(self, text: str) -> str:
        """What was typed, put back."""
        table = str.maketrans({mark: said for said, mark in self._stand_in.items()})
        return text.translate(table) if table else text


def _texts(value: Any):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def unused(text: str, first: int = FIRST):
    """Private-use characters, in order, that a text does not hold."""
    present = set(text)
    return (chr(c) for c in itertools.count(first) if chr(c) not in present)


class MarkedEncoder:
    """Encodes rendered text whose control tokens are the template's.

    Args:
      tokenizer: gives the ids.
    """

    def __init__(self, tokenizer: SubwordTokenizer):
        self.names = Names(tokenizer.special_tokens)
        self._tokenizer, self._backend = tokenizer, None

    def encode(
        self,
        pieces: Sequence[str],
        shown: Callable[[str], str],
        cuts: Sequence[int] = (),
    ) -> tuple[list[int], list[int]]:
        """Ids of the pieces joined, and which piece each came from.

        Args:
          pieces: a rendered text, cut wherever the caller wants to know what came
            from where.
          shown: puts back what a `Disguise` hid.
          cuts: numbers of pieces that begin what a model generates: the ids before
            must be those of the text before. Where a token would stand across, the
            two sides are encoded apart.

        Returns:
          The ids, and the number of the piece in which each begins.

        Raises:
          InputError: the tokenizer cannot encode the text behind a cut by itself.
        """
        marked = self._marked(pieces, shown)
        edges = list(itertools.accumulate(map(len, marked), initial=0))
        text = "".join(marked)
        ids, spans = self._from(text, [edges[cut] for cut in cuts])
        starts = np.fromiter((start for start, _ in spans), np.int64, len(spans))
        places = np.searchsorted(edges[1:-1], starts, side="right")
        return [self._real.get(i, i) for i in ids], places.tolist()

    def plain(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of a text that has no control token, and the characters of each."""
        self._marked(["", ""], lambda _: text)
        return self._plain(text)

    def _marked(self, pieces, shown) -> list[str]:
        """The pieces with a private character for each control token."""
        typed = shown("".join(pieces))
        if self._backend is None or not self._free.isdisjoint(typed):
            self._make(typed)
        swap = lambda match: self._mark[match.group()]  # noqa: E731
        return [shown(self.names.pattern.sub(swap, piece)) for piece in pieces]

    def _make(self, typed: str) -> None:
        """A copy of the tokenizer with a private token for each control token."""
        from tokenizers import AddedToken, processors

        source = self._tokenizer.backend
        rules = {t.content: t for t in source.get_added_tokens_decoder().values()}
        backend = copied(source)
        backend.encode_special_tokens = True
        backend.post_processor = processors.ByteLevel(trim_offsets=False)
        free = unused(typed, 0x100000)
        self._mark = {name: next(free) for name in self.names.whole}
        self._behind = next(free)  # stands before text that goes on after a cut
        backend.add_tokens(
            [
                AddedToken(
                    mark,
                    lstrip=rules[name].lstrip,
                    rstrip=rules[name].rstrip,
                    normalized=rules[name].normalized,
                    special=False,
                )
                for name, mark in self._mark.items()
            ]
        )
        backend.add_tokens([AddedToken(self._behind, normalized=False, special=False)])
        real = self._tokenizer.special_tokens
        self._real = {
            backend.token_to_id(mark): real[name] for name, mark in self._mark.items()
        }
        taken = {*source.get_vocab().values()} & {*self._real}
        if taken:
            raise InputError(
                f"tokenizer: its ids have gaps below {max(taken)}: expected every id "
                f"from 0 to {self._tokenizer.vocab_size - 1} to be a token"
            )
        self._backend = backend
        self._free = {*self._mark.values(), self._behind}

    def _plain(self, text: str, behind: bool = False):
        """Ids and spans of marked text; `behind`: it goes on after other text."""
        if not behind:
            found = self._backend.encode(text, add_special_tokens=False)
            return found.ids, found.offsets
        if not text:
            return [], []
        found = self._backend.encode(self._behind + text, add_special_tokens=False)
        return found.ids[1:], [(a - 1, b - 1) for a, b in found.offsets[1:]]

    def _from(self, text: str, cuts: list[int], behind: bool = False):
        """Ids and spans of a text, cut where its tokens would not let it be."""
        ids, spans = self._plain(text, behind)
        for i, cut in enumerate(cuts):
            if self._divides(text, ids, spans, cut, behind):
                continue
            left, left_spans = self._plain(text[:cut], behind)
            rest = text[cut:]
            skip = self._skipped(rest)
            later = [c - cut - skip for c in cuts[i + 1 :]]
            right, right_spans = self._from(rest[skip:], later, behind=True)
            move = cut + skip
            shifted = [(a + move, b + move) for a, b in right_spans]
            return [*left, *right], [*left_spans, *shifted]
        return ids, spans

    def _divides(self, text, ids, spans, cut: int, behind: bool) -> bool:
        """Whether the ids before a place are the ids of the text before it."""
        count = bisect.bisect_left(spans, (cut, -1))
        if count and spans[count - 1][1] > cut:
            return False
        real, last = self._real, range(count - 1, -1, -1)
        base = next((k for k in last if ids[k] in real), None)  # control tokens divide
        begin = 0 if base is None else spans[base][0]
        alone, _ = self._plain(text[begin:cut], behind and base is None)
        return alone == list(ids[base or 0 : count])

    def _skipped(self, rest: str) -> int:
        """1 where the tokenizer puts a space before text itself, else 0.

        Raises:
          InputError: it would put one where the text has none.
        """
        begun = self._backend.encode(self._behind + "a", add_special_tokens=False)
        if "\u2581" not in begun.tokens[1]:
            return 0
        if rest[:1] in ("", " ") or rest[0] in self._free:
            return int(rest[:1] == " ")
        said = "".join(c for c in rest[:20] if c not in self._free)
        raise InputError(
            "conversation: a token would stand across the beginning of an assistant's "
            f"turn ({said!r}), and this tokenizer encodes no text without a space "
            "before it: expected no white space where the turn begins"
        )


def character_spans(tokenizer: Tokenizer, text: str) -> list[tuple[int, int]]:
    """(start, end) of the characters of a plain text that each of its ids spells.

    Raises:
      InputError: the tokenizer does not tell.
    """
    if isinstance(tokenizer, ByteTokenizer):
        sizes = [len(c.encode()) for c in text]
        return [(i, i + 1) for i, size in enumerate(sizes) for _ in range(size)]
    ids, spans = encoder_of(tokenizer).plain(text)
    if ids != tokenizer.encode_batch([text])[0]:
        raise InputError(
            "conversation: this tokenizer does not tell which characters its ids "
            f"spell: {text[:40]!r}"
        )
    return spans


def encoder_of(tokenizer: SubwordTokenizer) -> MarkedEncoder:
    """The tokenizer's `MarkedEncoder`, made once."""
    found = getattr(tokenizer, "_marked_encoder", None)
    if found is None:
        found = tokenizer._marked_encoder = MarkedEncoder(tokenizer)
    return found

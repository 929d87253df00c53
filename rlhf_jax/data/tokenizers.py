"""Text to token ids and back.

Every tokenizer here keeps one promise: `encode` treats its text as text. Whoever types
`<|endoftext|>` gets the tokens that spell it, never the control token; control tokens
enter a sequence only by their ids (`end_token`, `begin_token`) or through a chat
template (`chat`).
"""

import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from rlhf_jax.data.pieces import PieceMemo, cuts_at_spaces
from rlhf_jax.data.tokenizer_settings import (
    generation_settings,
    named_tokens,
    templates_by_name,
)
from rlhf_jax.errors import InputError

__all__ = ["ByteTokenizer", "SubwordTokenizer", "Tokenizer", "train_bpe"]

END_TEXT, PAD_TEXT = "<|endoftext|>", "<|pad|>"


@runtime_checkable
class Tokenizer(Protocol):
    """What encoding, sampling and evaluation need of a tokenizer.

    Attributes:
      vocab_size: one more than the greatest id: the rows of the embedding.
      end_token: the id that ends a response.
      pad_token: the id of filler; never `end_token`. It means nothing by itself:
        masks say what is padding.
      begin_token: the id that the model expects before a text, or None.
      end_tokens: every id at which generation stops, `end_token` first.
      special_tokens: text of each control token -> id.
      named_tokens: what the configuration calls them: "eos_token" -> text.
      generation: what else `generation_config.json` holds.
      chat_template: a Jinja template over `messages`, or None.
    """

    vocab_size: int
    end_token: int
    pad_token: int
    begin_token: int | None
    end_tokens: tuple[int, ...]
    special_tokens: dict[str, int]
    named_tokens: dict[str, str]
    generation: dict
    chat_template: str | None

    def encode(self, text: str) -> list[int]:
        """The ids of a text, all of it plain; adds no control token."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, faster than one by one."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; control tokens are left out."""

    def token_text(self, token: int) -> str:
        """One token as a person should see it, control tokens included."""

    def save(self, directory: str | pathlib.Path) -> None:
        """Writes files that `load_tokenizer` and transformers read."""


class ByteTokenizer:
    """One token per UTF-8 byte: 256 ids, then the end (256) and the pad token (257).

    >>> tokenizer = ByteTokenizer()
    >>> tokenizer.encode("né"), tokenizer.decode([110, 195, 169, 256])
    ([110, 195, 169], 'né')
    """

    vocab_size = 258
    end_token = 256
    pad_token = 257
    begin_token = None
    end_tokens = (256,)
    chat_template = None

    def __init__(self):
        self.special_tokens = {END_TEXT: self.end_token, PAD_TEXT: self.pad_token}
        self.named_tokens = {"eos_token": END_TEXT, "pad_token": PAD_TEXT}
        self.generation: dict = {}

    def encode(self, text: str) -> list[int]:
        """The bytes of the text in UTF-8."""
        return list(text.encode("utf-8"))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the bytes; what is no UTF-8 becomes U+FFFD."""
        kept = bytes(int(i) for i in ids if 0 <= int(i) < 256)
        return kept.decode("utf-8", errors="replace")

    def token_text(self, token: int) -> str:
        """One byte as Latin-1, or the name of a control token."""
        names = {i: text for text, i in self.special_tokens.items()}
        return names.get(int(token)) or bytes([token]).decode("latin-1")

    def save(self, directory: str | pathlib.Path) -> None:
        """Writes the same mapping as a byte-level BPE without merges."""
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, pre_tokenizers

        vocab = dict(zip(byte_characters(), range(256), strict=True))
        backend = Backend(models.BPE(vocab=vocab, merges=[]))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(
            add_prefix_space=False, use_regex=False
        )
        backend.decoder = decoders.ByteLevel()
        backend.add_special_tokens(list(self.special_tokens))
        config = {**self.named_tokens, "byte_tokenizer": True}
        SubwordTokenizer(backend, config).save(directory)


class SubwordTokenizer:
    """A `tokenizers` tokenizer with the settings of its `tokenizer_config.json`.

    Where no pad token is declared, or it is the end token (GPT-2's habit), the unknown
    token or else the lowest id that ends nothing stands in.

    Args:
      backend: a `tokenizers.Tokenizer`.
      config: the keys of `tokenizer_config.json`; `eos_token` is needed, or BERT's
        `sep_token`.
      end_tokens: further ids at which generation stops.
      generation: the keys of `generation_config.json` (temperature, top_p), which are
        kept for whoever reads the tokenizer's directory next.

    Raises:
      InputError: no end token, or one that the vocabulary does not hold.
    """

    def __init__(
        self,
        backend,
        config: dict,
        end_tokens: Iterable[int] = (),
        generation: dict | None = None,
    ):
        self.backend, self.config = backend, config
        self.generation = dict(generation or {})
        backend.encode_special_tokens = True  # special text in a prompt is plain text
        backend.no_truncation()
        backend.no_padding()
        added = backend.get_added_tokens_decoder()
        self.special_tokens = {t.content: i for i, t in added.items() if t.special}
        self.vocab_size = 1 + max(backend.get_vocab(with_added_tokens=True).values())
        end = self._id("eos_token")
        if end is None:  # a BERT's text stands between [CLS] and [SEP]
            end = self._id("sep_token")
        if end is None:
            raise InputError(
                "tokenizer_config.json: eos_token: expected a token of the vocabulary, "
                f"got {config.get('eos_token')!r}"
            )
        self.end_token = end
        self.end_tokens = tuple(dict.fromkeys([end, *end_tokens]))
        self.pad_token = self._pad()
        self.begin_token = self._begin()
        templates = templates_by_name(config.get("chat_template"))
        self.chat_template = templates.get("default")
        self.tool_template = templates.get("tool_use", self.chat_template)
        self._memo = PieceMemo(backend) if cuts_at_spaces(backend) else None

    @property
    def named_tokens(self) -> dict[str, str]:
        """Every special token that the configuration names: "bos_token" -> text."""
        return named_tokens(self.config)

    def _id(self, key: str) -> int | None:
        text = self.named_tokens.get(key)
        return None if text is None else self.backend.token_to_id(text)

    def _pad(self) -> int:
        declared = [self._id("pad_token"), self._id("unk_token"), *range(16)]
        return next(i for i in declared if i is not None and i not in self.end_tokens)

    def _begin(self) -> int | None:
        """The begin token, when the tokenizer's own recipe puts it before a text."""
        begin = self._id("bos_token")
        if begin is None:
            begin = self._id("cls_token")
        try:
            plain, ids = (
                self.backend.encode("a", add_special_tokens=adds).ids
                for adds in (False, True)
            )
        except Exception as error:  # `tokenizers` raises bare Exception
            raise InputError(f"tokenizer: cannot encode a letter: {error}") from error
        if begin is None or ids[:1] != [begin]:
            return None
        if ids[1 : 1 + len(plain)] != plain:
            shown = ids[: len(ids) - len(plain)]
            raise InputError(
                f"tokenizer: puts several control tokens before a text (ids {shown}): "
                "expected one at most"
            )
        return begin

    def encode(self, text: str) -> list[int]:
        """The ids of a text, all of it plain; adds no control token."""
        ids = self.backend.encode(text, add_special_tokens=False).ids
        return self._spelled(text) if self._slipped(text, ids) else ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text; words seen before come from memory."""
        if self._memo is not None:
            found = self._memo.encode_batch(texts)
        else:
            made = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
            found = [encoding.ids for encoding in made]
        pairs = zip(texts, found, strict=True)
        return [self._spelled(t) if self._slipped(t, ids) else ids for t, ids in pairs]

    def _slipped(self, text: str, ids: list[int]) -> bool:
        """Whether the model (Unigram, WordLevel) made a control token out of text."""
        return any(s in text and i in ids for s, i in self.special_tokens.items())

    def _spelled(self, text: str) -> list[int]:
        """Encodes with every control token's text cut in two, so that none can form."""
        pieces = [text]
        for special in self.special_tokens:
            if len(special) > 1 and special in text:
                pieces = [part for piece in pieces for part in _cut(piece, special)]
        found = self.backend.encode_batch(pieces, add_special_tokens=False)
        return [i for encoding in found for i in encoding.ids]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; control tokens are left out."""
        return self.backend.decode([int(i) for i in ids], skip_special_tokens=True)

    def token_text(self, token: int) -> str:
        """One token as a person should see it, control tokens included."""
        special = {i: text for text, i in self.special_tokens.items()}
        return special.get(int(token)) or self.backend.decode([int(token)])

    def save(self, directory: str | pathlib.Path) -> None:
        """Writes tokenizer.json and tokenizer_config.json into a directory."""
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.backend.save(str(directory / "tokenizer.json"))
        kept = {k: v for k, v in self.config.items() if k != "tokenizer_class"}
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **kept}
        (directory / "tokenizer_config.json").write_text(
            json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        generation = generation_settings(self)
        if self.generation or len(self.end_tokens) > 1:
            text = json.dumps(generation, indent=2) + "\n"
            (directory / "generation_config.json").write_text(text)

    def with_end_tokens(self, ids: Iterable[int]) -> "SubwordTokenizer":
        """The same tokenizer, whose generation stops at these ids too."""
        ends = [*self.end_tokens, *ids]
        return SubwordTokenizer(self.backend, self.config, ends, self.generation)

    def with_pad(self, text: str) -> "SubwordTokenizer":
        """The same tokenizer, which declares this control token as its pad token.

        It is added behind the last id where the vocabulary lacks it.
        """
        backend = copied(self.backend)
        known = self.backend.token_to_id(text) is not None
        backend.add_special_tokens([text])
        if not known and backend.token_to_id(text) != self.vocab_size:
            raise InputError(
                f"tokenizer: no id for {text!r} behind the last one: its ids have gaps"
            )
        config = {**self.config, "pad_token": text}
        return SubwordTokenizer(backend, config, self.end_tokens, self.generation)


def _cut(text: str, special: str) -> Iterator[str]:
    """The text, cut behind the first character of every `special` in it.

    >>> list(_cut("a</s>b</s>", "</s>"))
    ['a<', '/s>b<', '/s>']
    """
    start = 0
    while (place := text.find(special, start)) >= 0:
        yield text[start : place + 1]
        start = place + 1
    yield text[start:]


def byte_characters() -> list[str]:
    """The printable character by which byte-level BPE writes each byte 0..255.

    Printable Latin-1 characters stand for themselves; the other 68 bytes are numbered
    from U+0100 on (Radford et al. 2019, the vocabulary files of GPT-2).

    >>> byte_characters()[32], byte_characters()[65]
    ('Ġ', 'A')
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(b if b in printable else next(others)) for b in range(256)]


def train_bpe(texts: Iterable[str], vocab_size: int) -> SubwordTokenizer:
    """Trains a byte-level BPE, GPT-2's kind, on texts; any string round-trips.

    Args:
      texts: the corpus, read once.
      vocab_size: at most so many ids: pad (0), end (1), the 256 bytes, then merges.

    Raises:
      InputError: fewer ids than 258.
    """
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers

    if vocab_size < 258:
        raise InputError(f"vocab_size: expected at least 258, got {vocab_size}")
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD_TEXT, END_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    config = {"eos_token": END_TEXT, "pad_token": PAD_TEXT}
    return SubwordTokenizer(backend, config)


def copied(backend: Any) -> Any:
    """A copy of a `tokenizers` object.

    Raises:
      InputError: two of its tokens have one id, so that it cannot be written whole.
    """
    try:
        return type(backend).from_str(backend.to_str())
    except Exception as error:  # `tokenizers` raises bare Exception
        raise InputError(f"tokenizer.json: read, but not whole: {error}") from error

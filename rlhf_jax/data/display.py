"""A record as its tokens, in colours that tell what is trained."""

from collections.abc import Iterable
from typing import Literal

from rlhf_jax.data.conversations import ConversationForm
from rlhf_jax.data.encoding import (
    Limits,
    encode_demonstrations,
    encode_prompts,
    encode_rankings,
    encode_texts,
)
from rlhf_jax.data.records import Demonstration, Ranking, Record, Text
from rlhf_jax.data.tokenizers import Tokenizer
from rlhf_jax.errors import InputError

__all__ = ["shown_tokens"]

TRAINED, GIVEN, SCORED = "black on green", "dim", "black on cyan"
UNLIMITED = Limits(1 << 30, 1 << 30)


def shown_tokens(
    record: Record,
    tokenizer: Tokenizer,
    *,
    train_on_prompt: bool = False,
    form: ConversationForm | None = None,
    train_turns: Literal["all", "last"] = "all",
):
    """A `rich.text.Text`: given tokens dim, trained ones on green, a response's last
    token, where a reward model reads its score, on cyan.

    Tokens stand between thin bars, so that their borders are seen; a token that is no
    whole character shows as its replacement character.

    Args:
      record: of any kind.
      tokenizer: gives the ids.
      train_on_prompt, form, train_turns: as for `encode_demonstrations`.
    """
    if isinstance(record, Ranking):
        return _ranking(record, tokenizer, form)
    if isinstance(record, Demonstration):
        encoded = next(
            encode_demonstrations(
                [record],
                tokenizer,
                UNLIMITED,
                train_on_prompt=train_on_prompt,
                form=form,
                train_turns=train_turns,
            ),
            None,
        )
        if encoded is None:
            raise InputError(f"record {record.id!r}: nothing of it is trained")
    elif isinstance(record, Text):
        encoded = next(encode_texts([record], tokenizer))
    else:
        prompt = next(encode_prompts([record], tokenizer, UNLIMITED, form=form))
        return _painted(tokenizer, prompt.tokens, [GIVEN] * len(prompt.tokens))
    weights = encoded.weights or [
        float(i >= encoded.start) for i in range(len(encoded.tokens))
    ]
    styles = [TRAINED if weight else GIVEN for weight in weights]
    text = _painted(tokenizer, encoded.tokens, styles)
    trained = sum(weight > 0 for weight in weights)
    text.append(f"\n{len(encoded.tokens)} tokens, {trained} trained", "bold")
    return text


def _ranking(record: Ranking, tokenizer: Tokenizer, form: ConversationForm | None):
    encoded = next(encode_rankings([record], tokenizer, UNLIMITED, form=form))
    text = _painted(tokenizer, encoded.prompt, [GIVEN] * len(encoded.prompt))
    order = sorted(range(len(encoded.ranks)), key=lambda k: encoded.ranks[k])
    for k in order:
        ids = encoded.responses[k]
        text.append(f"\n\nrank {encoded.ranks[k]}, response {k}: ", "bold")
        styles = ["default"] * (len(ids) - 1) + [SCORED]
        text.append_text(_painted(tokenizer, ids, styles))
    return text


def _painted(tokenizer: Tokenizer, ids: Iterable[int], styles: Iterable[str]):
    from rich.text import Text as Painted

    text = Painted()
    for token, style in zip(ids, styles, strict=True):
        shown = tokenizer.token_text(token)
        text.append(visible(shown), style)
        text.append("\n" if shown.endswith("\n") else "▏", "dim")
    return text


def visible(text: str) -> str:
    """Text with line ends as ⏎ and control characters as �, safe for a terminal.

    >>> visible("a\\n\\x1b[31m")
    'a⏎�[31m'
    """
    text = text.replace("\n", "⏎")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)

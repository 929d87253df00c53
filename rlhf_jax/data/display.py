"""A record as its tokens, in colours that tell what is trained."""

from collections.abc import Iterable

from rlhf_jax.data.encoding import (
    Limits,
    encode_demonstrations,
    encode_prompts,
    encode_rankings,
    encode_texts,
)
from rlhf_jax.data.records import Demonstration, Ranking, Record, Text
from rlhf_jax.data.tokenizers import Tokenizer

__all__ = ["shown_tokens"]

TRAINED, GIVEN, SCORED = "black on green", "dim", "black on cyan"
UNLIMITED = Limits(1 << 30, 1 << 30)


def shown_tokens(
    record: Record,
    tokenizer: Tokenizer,
    *,
    train_on_prompt: bool = False,
    chat: bool = False,
):
    """A `rich.text.Text`: given tokens dim, trained ones on green, a response's last
    token, where a reward model reads its score, on cyan.

    Tokens stand between thin bars, so that their borders are seen; a token that is no
    whole character shows as its replacement character.
    """
    if isinstance(record, Ranking):
        return _ranking(record, tokenizer, chat)
    if isinstance(record, Demonstration):
        encoded = next(
            encode_demonstrations(
                [record],
                tokenizer,
                UNLIMITED,
                train_on_prompt=train_on_prompt,
                chat=chat,
            )
        )
    elif isinstance(record, Text):
        encoded = next(encode_texts([record], tokenizer))
    else:
        prompt = next(encode_prompts([record], tokenizer, UNLIMITED, chat=chat))
        return _painted(tokenizer, prompt.tokens, [GIVEN] * len(prompt.tokens))
    styles = [
        GIVEN if i < encoded.start else TRAINED for i in range(len(encoded.tokens))
    ]
    text = _painted(tokenizer, encoded.tokens, styles)
    trained = len(encoded.tokens) - encoded.start
    text.append(f"\n{len(encoded.tokens)} tokens, {trained} trained", "bold")
    return text


def _ranking(record: Ranking, tokenizer: Tokenizer, chat: bool):
    encoded = next(encode_rankings([record], tokenizer, UNLIMITED, chat=chat))
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

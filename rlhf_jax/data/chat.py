"""Conversations through a tokenizer's chat template, safely.

A template is a small Jinja program that writes control tokens between the turns. It
runs in Jinja's sandbox. Only what the template itself writes can become a control
token: special-token text inside a message stays text.
"""

import functools
import itertools
import re
from collections.abc import Sequence

from rlhf_jax.data.tokenizers import Tokenizer
from rlhf_jax.errors import InputError

__all__ = ["chat_text", "chat_tokens"]


def chat_tokens(
    tokenizer: Tokenizer,
    messages: Sequence[dict[str, str]],
    *,
    add_generation_prompt: bool = True,
) -> list[int]:
    """The ids of a conversation, up to where the assistant is to speak.

    Special-token text in a message is hidden from the template behind private-use
    characters, the rendered text is cut at the control tokens that are left, and each
    piece between them is encoded as plain text with the hidden text put back.

    Args:
      tokenizer: its `chat_template` is used.
      messages: dicts with "role" and "content".
      add_generation_prompt: open the assistant's turn.

    Raises:
      InputError: the tokenizer has no template, or the template refuses the messages.
    """
    special = sorted(tokenizer.special_tokens, key=len, reverse=True)
    hidden = _stand_ins(special, "".join(m["content"] for m in messages))
    shown = {stand_in: text for text, stand_in in hidden.items()}
    safe = [{**m, "content": _replaced(m["content"], hidden)} for m in messages]
    text = chat_text(tokenizer, safe, add_generation_prompt=add_generation_prompt)
    ids: list[int] = []
    for piece in _split(text, special):
        if piece in tokenizer.special_tokens:
            ids.append(tokenizer.special_tokens[piece])
        elif piece:
            ids += tokenizer.encode(_replaced(piece, shown))
    return ids


def chat_text(
    tokenizer: Tokenizer,
    messages: Sequence[dict[str, str]],
    *,
    add_generation_prompt: bool = True,
) -> str:
    """What the template writes; for eyes, not for encoding (see `chat_tokens`)."""
    from jinja2.exceptions import TemplateError

    if not tokenizer.chat_template:
        raise InputError(
            "chat template: expected the tokenizer to have one "
            "(tokenizer_config.json: chat_template), it has none"
        )
    names = {i: text for text, i in tokenizer.special_tokens.items()}
    try:
        return _template(tokenizer.chat_template).render(
            messages=list(messages),
            add_generation_prompt=add_generation_prompt,
            bos_token=names.get(tokenizer.begin_token, ""),
            eos_token=names.get(tokenizer.end_token, ""),
            pad_token=names.get(tokenizer.pad_token, ""),
        )
    except TemplateError as error:
        raise InputError(f"chat template: {error}") from error


@functools.lru_cache(maxsize=8)
def _template(source: str):
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str):
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = refuse
    return environment.from_string(source)


def _stand_ins(special: Sequence[str], text: str) -> dict[str, str]:
    """A private-use character that `text` does not hold, for each special text."""
    free = (chr(c) for c in itertools.count(0xF0000) if chr(c) not in text)
    return {name: next(free) for name in special if name in text}


def _split(text: str, special: Sequence[str]) -> list[str]:
    """Cuts text at each special text, longest first, keeping them."""
    if not special:
        return [text]
    return re.split("(" + "|".join(map(re.escape, special)) + ")", text)


def _replaced(text: str, table: dict[str, str]) -> str:
    if not table:
        return text
    pattern = "|".join(map(re.escape, table))
    return re.sub(pattern, lambda match: table[match.group()], text)

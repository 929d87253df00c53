"""Conversations through a tokenizer's chat template, safely.

Only what the template itself writes can become a control token: special-token text
inside a message stays text. See `templates` for the form that stages use.
"""

from collections.abc import Sequence

from rlhf_jax.data.templates import TemplateForm
from rlhf_jax.data.tokenizers import Tokenizer

__all__ = ["chat_text", "chat_tokens"]


def chat_tokens(tokenizer: Tokenizer, messages: Sequence[dict[str, str]]) -> list[int]:
    """The ids of a conversation, up to where the assistant is to speak.

    Args:
      tokenizer: its `chat_template` is used.
      messages: dicts with "role" and "content".

    Raises:
      InputError: the tokenizer has no template, or the template refuses the messages.
    """
    return TemplateForm(tokenizer).prompt_ids(messages)


def chat_text(
    tokenizer: Tokenizer,
    messages: Sequence[dict[str, str]],
    *,
    add_generation_prompt: bool = True,
) -> str:
    """What the template writes; for eyes, not for encoding (see `chat_tokens`)."""
    return TemplateForm(tokenizer).text(messages, answer=add_generation_prompt)

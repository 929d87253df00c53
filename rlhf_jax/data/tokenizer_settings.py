"""The JSON files beside a tokenizer: names of tokens, templates, generation."""

from typing import Any

__all__ = ["generation_settings", "named_tokens", "templates_by_name"]


def generation_settings(tokenizer: Any) -> dict:
    """`generation_config.json`: what was read, with the ids that are declared now."""
    ends = list(tokenizer.end_tokens)
    names, ids = tokenizer.named_tokens, tokenizer.special_tokens
    return {
        **tokenizer.generation,
        "bos_token_id": ids.get(names.get("bos_token")),
        "eos_token_id": ends if len(ends) > 1 else ends[0],
        "pad_token_id": ids.get(names.get("pad_token")),
    }


def named_tokens(config: dict) -> dict[str, str]:
    """The special tokens that a `tokenizer_config.json` names, by their keys.

    >>> named_tokens({"bos_token": {"content": "<s>"}, "add_bos_token": True})
    {'bos_token': '<s>'}
    """
    texts = {
        key: value.get("content") if isinstance(value, dict) else value
        for key, value in config.items()
        if key.endswith("_token")
    }
    return {key: text for key, text in texts.items() if isinstance(text, str)}


def templates_by_name(value) -> dict[str, str]:
    """Chat templates by name: one text is "default", a list names several."""
    if isinstance(value, list):
        value = {item["name"]: item["template"] for item in value}
    return value if isinstance(value, dict) else {} if not value else {"default": value}

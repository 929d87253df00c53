"""The JSON files beside a tokenizer: names of tokens, templates, generation."""

import pathlib
from typing import Any

from rlhf_jax.errors import InputError

__all__ = [
    "generation_settings",
    "named_tokens",
    "require_settings",
    "templates_by_name",
]


def require_settings(config: dict, generation: dict, path: pathlib.Path) -> None:
    """Refuses settings of other types than they can have.

    Args:
      config: `tokenizer_config.json`.
      generation: `generation_config.json`.
      path: their directory, for errors.

    Raises:
      InputError: names the file and the key.
    """
    for key, value in config.items():
        flag = key.startswith(("add_", "use_")) or value is None
        if key.endswith("_token") and not (flag or _is_token(value)):
            raise _wrong(path / "tokenizer_config.json", key, "a token's text", value)
    added = config.get("added_tokens_decoder") or {}
    if not isinstance(added, dict) or not all(
        key.isdecimal() and len(key) < 10 and isinstance(value, dict)
        for key, value in added.items()
    ):
        what, file = "objects by ids", path / "tokenizer_config.json"
        raise _wrong(file, "added_tokens_decoder", what, added)
    ends = generation.get("eos_token_id")
    ids = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        file = path / "generation_config.json"
        raise _wrong(file, "eos_token_id", "an id or a list of ids", ends)


def _is_token(value: Any) -> bool:
    text = value.get("content") if isinstance(value, dict) else value
    return isinstance(text, str)


def _wrong(file: pathlib.Path, key: str, expected: str, value: Any) -> InputError:
    return InputError(f"{file}: {key}: expected {expected}, got {str(value)[:60]!r}")


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
    """Chat templates by name: one text is "default", a list names several.

    Raises:
      InputError: templates or names that are no texts.
    """
    if not _are_templates(value):
        raise InputError(
            "tokenizer_config.json: chat_template: expected a text, or a list of "
            f"objects with name and template, got {str(value)[:60]!r}"
        )
    if isinstance(value, list):
        value = {item["name"]: item["template"] for item in value}
    return value if isinstance(value, dict) else {} if not value else {"default": value}


def _are_templates(value: Any) -> bool:
    if isinstance(value, list):
        return all(
            isinstance(item, dict)
            and isinstance(item.get("name"), str)
            and isinstance(item.get("template"), str)
            for item in value
        )
    if isinstance(value, dict):
        return all(isinstance(template, str) for template in value.values())
    return value is None or isinstance(value, str)

"""Tokenizers from directories, from GPT-2's own two files, and from the hub."""

import json
import pathlib

from rlhf_jax.data.tokenizers import (
    END_TEXT,
    ByteTokenizer,
    SubwordTokenizer,
    Tokenizer,
)
from rlhf_jax.errors import InputError
from rlhf_jax.storage import looks_local

__all__ = ["load_tokenizer"]

# the two spellings under which a byte-level BPE's vocabulary and merges are published
_BPE_FILES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))


def load_tokenizer(name: str | pathlib.Path) -> Tokenizer:
    """The tokenizer of a directory, of a hub name, or the byte tokenizer ("byte").

    A directory is read in this order: `tokenizer.json`; `vocab.json` + `merges.txt`;
    `encoder.json` + `vocab.bpe` (GPT-2 as first published); anything else that
    transformers can read. No code of the directory is ever run.

    Args:
      name: a directory, "byte", or a name such as "gpt2" on the Hugging Face hub.

    Raises:
      InputError: nothing there that is a tokenizer; says what was looked for.
    """
    if str(name) == "byte":
        return ByteTokenizer()
    path = pathlib.Path(name)
    if not path.is_dir() and looks_local(name):
        raise InputError(f"{name}: no directory, and not a hub name")
    if not path.is_dir():
        return _from_transformers(str(name))
    config = _config(path)
    if config.get("byte_tokenizer"):
        return ByteTokenizer()
    backend = _backend(path, config)
    if backend is None:
        return _from_transformers(str(path))
    try:
        return SubwordTokenizer(backend, config, _end_tokens(path))
    except InputError as error:
        raise InputError(f"{path}/{error}") from error


def _read_json(path: pathlib.Path) -> dict:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: expected JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object")
    return value


def _config(path: pathlib.Path) -> dict:
    """`tokenizer_config.json`, with the template that newer directories keep apart."""
    config = _read_json(path / "tokenizer_config.json")
    for key, value in _read_json(path / "special_tokens_map.json").items():
        config.setdefault(key, value)
    template = path / "chat_template.jinja"
    if template.exists():
        config["chat_template"] = template.read_text(encoding="utf-8")
    if isinstance(config.get("chat_template"), list):  # several templates, by name
        named = {t["name"]: t["template"] for t in config["chat_template"]}
        config["chat_template"] = named.get("default")
    return config


def _backend(path: pathlib.Path, config: dict):
    """The `tokenizers` object of a directory; None when transformers must try."""
    from tokenizers import Tokenizer as Backend

    if (path / "tokenizer.json").exists():
        try:
            return Backend.from_file(str(path / "tokenizer.json"))
        except Exception as error:  # `tokenizers` raises bare Exception
            raise InputError(f"{path / 'tokenizer.json'}: {error}") from error
    for vocab, merges in _BPE_FILES:
        if (path / vocab).exists() and (path / merges).exists():
            config.setdefault("eos_token", END_TEXT)
            return _byte_level_bpe(path / vocab, path / merges, config)
    return None


def _byte_level_bpe(vocab: pathlib.Path, merges: pathlib.Path, config: dict):
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers

    try:
        model = models.BPE.from_file(str(vocab), str(merges))
    except Exception as error:  # `tokenizers` raises bare Exception
        raise InputError(f"{vocab}, {merges.name}: not a BPE: {error}") from error
    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=bool(config.get("add_prefix_space", False))
    )
    backend.decoder = decoders.ByteLevel()
    if isinstance(config["eos_token"], str):
        backend.add_special_tokens([config["eos_token"]])
    return backend


def _end_tokens(path: pathlib.Path) -> list[int]:
    """The ids at which `generation_config.json` stops."""
    found = _read_json(path / "generation_config.json").get("eos_token_id")
    return [] if found is None else found if isinstance(found, list) else [found]


def _from_transformers(name: str) -> SubwordTokenizer:
    """Whatever transformers makes of a directory or hub name; runs no foreign code."""
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InputError(
            f"tokenizer: {name!r}: expected a directory with tokenizer.json, with "
            "vocab.json + merges.txt or with encoder.json + vocab.bpe, a name on the "
            f"hub, or 'byte' ({str(error).splitlines()[0]})"
        ) from error
    backend = getattr(found, "backend_tokenizer", None)
    if backend is None:
        raise InputError(f"tokenizer: {name!r}: has no fast (tokenizers) form")
    config = {key: str(text) for key, text in found.special_tokens_map.items()}
    if isinstance(found.chat_template, str):
        config["chat_template"] = found.chat_template
    return SubwordTokenizer(backend, config)

"""Tokenizers from directories, from GPT-2's own two files, and from the hub."""

import importlib.util
import pathlib
from collections.abc import Sequence

from rlhf_jax.data.tokenizer_settings import named_tokens, require_settings
from rlhf_jax.data.tokenizers import (
    END_TEXT,
    ByteTokenizer,
    SubwordTokenizer,
    Tokenizer,
)
from rlhf_jax.errors import InputError
from rlhf_jax.storage import looks_local, read_bytes, read_json, require_regular

__all__ = ["load_tokenizer"]

# the two spellings under which a byte-level BPE's vocabulary and merges are published
_BPE_FILES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
# classes of transformers that take tokenizer.json as it is
_AS_IT_IS = ("PreTrainedTokenizerFast", "TokenizersBackend")
# what else changes a tokenizer: transformers then builds it, and we take its
_CHANGES = ("add_bos_token", "add_eos_token", "extra_special_tokens")
_CHANGES += ("additional_special_tokens", "model_specific_special_tokens", "auto_map")
_EXPECTED = (
    "expected a directory with tokenizer.json, with vocab.json + merges.txt, with "
    "encoder.json + vocab.bpe or with tokenizer.model, a name on the hub, or 'byte'"
)
_FILES = ("*.json", "*.txt", "*.jinja", "*.model", "*.bpe")
_CHANGED = ("special_tokens_map.json", "added_tokens.json")


def load_tokenizer(name: str | pathlib.Path) -> Tokenizer:
    """The tokenizer of a directory, of a hub name, or the byte tokenizer ("byte").

    A directory gives the ids that transformers' AutoTokenizer gives. A plain
    `tokenizer.json` is read as it is; where further files or settings have a say (the
    class of a family, `added_tokens.json`, `special_tokens_map.json`, `add_bos_token`,
    `vocab.json` + `merges.txt`, `tokenizer.model`), transformers puts them together.
    `vocab.json` + `merges.txt` or `encoder.json` + `vocab.bpe` alone are GPT-2's, as
    first published. No code of the directory is ever run.

    Args:
      name: a directory, "byte", or a name such as "gpt2" on the Hugging Face hub.

    Raises:
      InputError: nothing there that is a tokenizer; says what was looked for.
    """
    if str(name) == "byte":
        return ByteTokenizer()
    path = pathlib.Path(name)
    if not path.is_dir() and looks_local(name):
        raise InputError(f"{name}: no directory, and not a hub name: {_EXPECTED}")
    if not path.is_dir():
        return _from_transformers(str(name))
    require_regular(path, _FILES)
    config = _config(path)
    if config.get("byte_tokenizer"):
        return ByteTokenizer()
    try:
        return _of_directory(path, config)
    except InputError as error:
        said = str(error)
        raise InputError(said if str(path) in said else f"{path}/{said}") from error


def _of_directory(path: pathlib.Path, config: dict) -> SubwordTokenizer:
    ends, generation = _generation(path)
    require_settings(config, generation, path)
    backend = _json_backend(path)
    if backend is not None and _is_plain(path, config, backend):
        return SubwordTokenizer(backend, config, ends, generation)
    if backend is None and "tokenizer_class" not in config:
        if not _read_json(path / "config.json").get("model_type"):
            backend = _gpt2_backend(path, config)
            if backend is not None:
                return SubwordTokenizer(backend, config, ends, generation)
    if backend is None and list(path.glob("*.model")):
        _require_sentencepiece(path)
    return _from_transformers(str(path), ends, generation)


def _is_plain(path: pathlib.Path, config: dict, backend) -> bool:
    """Whether transformers would take `tokenizer.json` as it is."""
    kind = config.get("tokenizer_class")
    if kind is None:
        if _read_json(path / "config.json").get("model_type"):
            return False
    elif kind not in _AS_IT_IS:
        return False
    if any((path / name).exists() for name in _CHANGED):
        return False
    if any(config.get(key) is not None for key in _CHANGES):
        return False
    added = backend.get_added_tokens_decoder()
    special = {token.content for token in added.values() if token.special}
    if not special.issuperset(named_tokens(config).values()):
        return False
    declared = config.get("added_tokens_decoder") or {}
    return all(
        int(i) in added and _like(added[int(i)], token) for i, token in declared.items()
    )


def _like(token, declared: dict) -> bool:
    rules = ("content", "lstrip", "rstrip", "normalized", "single_word", "special")
    return all(getattr(token, rule) == declared.get(rule) for rule in rules)


def _read_json(path: pathlib.Path) -> dict:
    return read_json(path) if path.exists() else {}


def _config(path: pathlib.Path) -> dict:
    """`tokenizer_config.json`, with the template that newer directories keep apart."""
    config = _read_json(path / "tokenizer_config.json")
    template = path / "chat_template.jinja"
    if template.exists():
        try:
            config["chat_template"] = read_bytes(template).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{template}: expected UTF-8: {error}") from error
    return config


def _json_backend(path: pathlib.Path):
    """The `tokenizers` object of tokenizer.json; None where there is no such file.

    Raises:
      InputError: the file is damaged.
    """
    from tokenizers import Tokenizer as Backend

    file = path / "tokenizer.json"
    if not file.exists():
        return None
    try:
        return Backend.from_file(str(file))
    except Exception as error:  # `tokenizers` raises bare Exception
        raise InputError(f"{file}: {error}") from error


def _gpt2_backend(path: pathlib.Path, config: dict):
    """GPT-2's two files and nothing that says of which family they are; else None."""
    for vocab, merges in _BPE_FILES:
        if (path / vocab).exists() and (path / merges).exists():
            config.setdefault("eos_token", END_TEXT)
            return _byte_level_bpe(path / vocab, path / merges, config)
    return None


def _require_sentencepiece(path: pathlib.Path) -> None:
    names = ", ".join(sorted(file.name for file in path.glob("*.model")))
    if importlib.util.find_spec("sentencepiece") is None:
        raise InputError(
            f"{path}: {names} and no tokenizer.json: a sentencepiece model, for which "
            "`pip install sentencepiece` is needed"
        )


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


def _generation(path: pathlib.Path) -> tuple[list[int], dict]:
    """The ids at which `generation_config.json` stops, and the whole file."""
    found = _read_json(path / "generation_config.json")
    ends = found.get("eos_token_id")
    return [] if ends is None else ends if isinstance(ends, list) else [ends], found


def _from_transformers(
    name: str, end_tokens: Sequence[int] = (), generation: dict | None = None
) -> SubwordTokenizer:
    """Whatever transformers makes of a directory or hub name; runs no foreign code."""
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # each kind of file fails in its own way
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"tokenizer: {name!r}: {_EXPECTED} ({why})") from error
    backend = getattr(found, "backend_tokenizer", None)
    if backend is None:
        raise InputError(
            f"tokenizer: {name!r}: {type(found).__name__} has no form in the library "
            "`tokenizers`: expected one that has"
        )
    config = dict(found.special_tokens_map)
    if found.chat_template is not None:
        config["chat_template"] = found.chat_template
    return SubwordTokenizer(backend, config, end_tokens, generation)

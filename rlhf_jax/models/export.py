"""Writing checkpoints in transformers' layout: `save_pretrained`, their config.json."""

import dataclasses
import json
import math
import pathlib
import re
import shutil
from typing import Any

import jax
import numpy as np

from rlhf_jax.data.tokenizer_files import load_tokenizer
from rlhf_jax.data.tokenizer_settings import generation_settings
from rlhf_jax.data.tokenizers import PAD_TEXT, SubwordTokenizer
from rlhf_jax.data.vocabulary import check_vocabulary
from rlhf_jax.errors import InputError
from rlhf_jax.models.config import TrunkConfig
from rlhf_jax.models.dialects import (
    ACTIVATION_KEYS,
    ACTIVATIONS,
    KEYS,
    trunk_config,
)
from rlhf_jax.models.families import FAMILIES, theirs_of
from rlhf_jax.models.pretrained import leaf_paths
from rlhf_jax.models.trunk import stack_layers
from rlhf_jax.models.weights import numpy_dtype, save_weights

SHARD_BYTES = 5 * 10**9
_IDS = ("bos", "eos", "pad")
_TOKENIZER_FILES = (
    "tokenizer*",
    "*.jinja",
    "vocab.*",
    "merges.txt",
    "*.model",
    "special_tokens_map.json",
    "generation_config.json",
)


def save_pretrained(
    directory: str | pathlib.Path,
    config: TrunkConfig,
    params: dict,
    tokenizer: Any = None,
    *,
    family: str | None = None,
    dtype: str | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> pathlib.Path:
    """Writes a directory that transformers and `load_pretrained` read.

    A `ScalarModel` becomes `<Family>ForSequenceClassification` with one label. Its
    bias, which transformers' heads lack, is written as `score.bias` when it is not 0;
    transformers then reports an unused tensor and its scores lack that constant. There
    the score is read at the last token that is no pad token, so its tokenizer declares
    one that ends nothing; where it has none, one is added, and a row to the embedding.

    The ids of the begin, end and pad token are the same in tokenizer_config.json,
    config.json and generation_config.json, which keeps what it held besides.

    Args:
      directory: made when absent; weights in it are replaced.
      config: of the trunk.
      params: of a `LanguageModel` or a `ScalarModel`.
      tokenizer: with `save(dir)`, `end_token`, `pad_token`; or a directory whose
        tokenizer files are copied; None: no tokenizer files.
      family: `model_type`; None: the first that can express the config.
      dtype: of the file; None: that of the parameters.
      shard_bytes: most bytes per file.

    Returns:
      The directory.

    Raises:
      InputError: no family can express the config; or parameters that are not finite.
    """
    directory = pathlib.Path(directory)
    kind = "scalar" if "head" in params else "lm"
    if hasattr(tokenizer, "save"):
        check_vocabulary(tokenizer, config.vocab_size, "save_pretrained")
        tokenizer = declared_pad(tokenizer, config.vocab_size, added=kind == "scalar")
        config, params = _with_rows(config, params, tokenizer.vocab_size)
    raw = hf_config(config, family, kind)
    family = FAMILIES[raw["model_type"]]
    directory.mkdir(parents=True, exist_ok=True)
    leaves = leaf_paths(stack_layers(params))
    stored = str(next(iter(leaves.values())).dtype) if dtype is None else dtype
    save_weights(
        directory, _tensors(family, config, leaves, numpy_dtype(stored)), shard_bytes
    )
    scalar = f"{family.architecture}ForSequenceClassification"
    raw["architectures"] = [scalar if kind == "scalar" else family.causal]
    raw |= {"torch_dtype": stored, "dtype": stored, "use_cache": kind == "lm"}
    raw |= _save_tokenizer(directory, tokenizer)
    _write_json(directory / "config.json", raw)
    return directory


def _tensors(family, config, leaves, dtype):
    """(name, array) of every tensor of theirs, one on the host at a time."""
    for name, row in family.tensors(set(leaves), config).items():
        layer = None
        if "{l}" in row.theirs:
            layer = int(re.search(r"\.(\d+)\.", name).group(1))
        parts = [leaves[path] for path in row.ours]
        parts = [_on_host(p if layer is None else p[layer]) for p in parts]
        array = theirs_of(parts, row, config).astype(dtype)
        if not np.isfinite(array.astype(np.float32)).all():
            raise InputError(f"{', '.join(row.ours)}: NaN or infinity, nothing saved")
        if name != "score.bias" or array.any():
            yield name, array


def _on_host(leaf) -> np.ndarray:
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(leaf, tiled=True)
    return np.asarray(leaf)


def _with_rows(config, params, rows: int):
    """The model with at least so many rows in its embedding; new ones are 0."""
    missing = rows - config.vocab_size
    if missing <= 0:
        return config, params
    table = params["trunk"]["token_embed"]["embedding"]
    wider = np.pad(_on_host(table), ((0, missing), (0, 0)))
    trunk = {**params["trunk"], "token_embed": {"embedding": wider}}
    return dataclasses.replace(config, vocab_size=rows), {**params, "trunk": trunk}


def declared_pad(tokenizer: Any, rows: int, *, added: bool) -> Any:
    """The tokenizer, declaring a pad token where one can be had.

    What it declares stays. Else it is a control token with "pad" in its name, the
    unknown token, or a new one where the embedding has a row to spare.

    Args:
      tokenizer: of the model.
      rows: of its embedding.
      added: for a model that tells padding by its id: the pad token ends nothing, and
        a new one is added even where the embedding has no row for it.
    """
    if not isinstance(tokenizer, SubwordTokenizer):
        return tokenizer  # bytes have a pad token
    ids, named = tokenizer.special_tokens, tokenizer.named_tokens
    declared = ids.get(named.get("pad_token"))
    if declared is not None and not (added and declared in tokenizer.end_tokens):
        return tokenizer
    padding = [text for text in ids if "pad" in text.lower()]
    for text in (*padding, named.get("unk_token")):
        if text in ids and ids[text] not in (
            *tokenizer.end_tokens,
            tokenizer.begin_token,
        ):
            return tokenizer.with_pad(text)
    if added or tokenizer.vocab_size < rows:
        return tokenizer.with_pad(PAD_TEXT)
    return tokenizer


def _save_tokenizer(directory, tokenizer) -> dict:
    """Tokenizer files and generation_config.json; the ids config.json repeats."""
    if tokenizer is None:
        return {}
    if isinstance(tokenizer, str | pathlib.Path):
        for pattern in _TOKENIZER_FILES:
            for file in pathlib.Path(tokenizer).glob(pattern):
                shutil.copyfile(file, directory / file.name)
        tokenizer = load_tokenizer(tokenizer)
    else:
        tokenizer.save(directory)
    settings = generation_settings(tokenizer)
    _write_json(directory / "generation_config.json", settings)
    return {f"{name}_token_id": settings[f"{name}_token_id"] for name in _IDS}


def _write_json(path: pathlib.Path, value: dict) -> None:
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
    draft.replace(path)


def hf_config(config: TrunkConfig, family: str | None, kind: str) -> dict:
    """config.json for a trunk: the inverse of `trunk_config`, in both dialects.

    Args:
      config: of the trunk.
      family: `model_type`; None: the first family that can express the config.
      kind: "lm" or "scalar".

    Raises:
      InputError: no family, or not this one, can express the config.
    """
    names = [family] if family else list(KEYS)
    for name in names:
        if name not in KEYS:
            raise InputError(f"family {name!r}: known are {', '.join(KEYS)}")
        raw = _written(config, name)
        if _same(trunk_config(raw, name), config):
            return _labelled(raw, kind)
    known = family or f"any family ({', '.join(KEYS)})"
    raise InputError(f"this config cannot be written as {known}: {config}")


def _same(read: TrunkConfig, config: TrunkConfig) -> bool:
    """Equal but for what config.json does not hold."""
    ours = ("residual_dropout", "dtype", "attention", "remat", "init_std")
    if config.positions == "learned":
        ours += ("rope_theta", "rope_fraction", "rope_scaling")
    one, two = vars(read), vars(config)
    return all(_close(one[name], two[name]) for name in one if name not in ours)


def _close(a, b):
    if isinstance(a, float) and isinstance(b, float | int):
        return math.isclose(a, b, rel_tol=1e-9)
    return a == b


def _written(config, family):
    raw = {"model_type": family}
    for field, (key, _) in KEYS[family].items():
        raw[key] = getattr(config, field)
    names = [
        theirs for theirs, ours in ACTIVATIONS.items() if ours == config.activation
    ]
    key, default = ACTIVATION_KEYS.get(family, ("hidden_act", "silu"))
    raw[key] = default if ACTIVATIONS[default] == config.activation else names[0]
    if family.startswith("gemma"):
        raw["hidden_act"] = raw[key]
    if config.positions == "rotary":
        raw |= _written_rope(config, family)
    if family == "gpt_neox":
        raw |= {
            "rotary_pct": config.rope_fraction,
            "rotary_emb_base": config.rope_theta,
        }
    if family in ("gemma2", "gemma3_text"):
        raw["query_pre_attn_scalar"] = _tidy(config.query_scale**-2)
    return raw | _written_windows(config, family)


def _written_rope(config, family):
    theta = {"rope_theta": config.rope_theta}
    new = {"rope_type": "default", **theta}
    if config.rope_fraction != 1.0:
        new["partial_rotary_factor"] = config.rope_fraction
    if config.rope_scaling is not None:
        old = _written_scaling(config.rope_scaling)
        new |= old
        theta["rope_scaling"] = old
    if family != "gemma3_text":
        return {**theta, "rope_parameters": new}
    local = {"rope_type": "default", "rope_theta": config.local_rope_theta or 1e4}
    both = {"sliding_attention": local, "full_attention": new}
    return {
        **theta,
        "rope_local_base_freq": local["rope_theta"],
        "rope_parameters": both,
    }


def _written_scaling(scaling):
    old = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind != "linear":
        old["original_max_position_embeddings"] = scaling.original_context
    if scaling.kind == "llama3":
        old |= {
            "low_freq_factor": scaling.low_frequency_factor,
            "high_freq_factor": scaling.high_frequency_factor,
        }
    if scaling.kind == "yarn":
        old |= {
            "beta_slow": scaling.low_frequency_factor,
            "beta_fast": scaling.high_frequency_factor,
            "attention_factor": scaling.attention_factor,
            "truncate": scaling.whole_pairs,
        }
    return old


def _written_windows(config, family):
    if family not in ("mistral", "qwen2", "qwen3", "gemma2", "gemma3_text"):
        return {}
    window = max(config.windows, default=0)
    kinds = [f"{'sliding' if w else 'full'}_attention" for w in config.windows]
    raw = {"sliding_window": window or None}
    if kinds and family != "mistral":
        raw["layer_types"] = kinds
    if family.startswith("qwen"):
        raw["use_sliding_window"] = bool(window)
        raw["max_window_layers"] = sum(w == 0 for w in config.windows)
    return raw


def _labelled(raw, kind):
    if kind == "scalar":
        raw |= {"id2label": {"0": "LABEL_0"}}
        raw |= {"label2id": {"LABEL_0": 0}, "problem_type": "regression"}
    return raw


def _tidy(number):
    """256.0000000001 -> 256: a square root went through float."""
    return round(number) if abs(number - round(number)) < 1e-6 else number

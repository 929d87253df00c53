"""Reading a BERT in transformers' layout into an encoder reward model."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from rlhf_jax.errors import InputError
from rlhf_jax.models.config_json import require_ranges
from rlhf_jax.models.encoder import EncoderConfig, EncoderRewardModel
from rlhf_jax.models.families import Family, Row, norm_rows, product_rows
from rlhf_jax.models.heads import init_params
from rlhf_jax.models.pretrained import (
    abstract_params,
    as_stored,
    checkpoint_directory,
    matched,
    read_leaves,
)
from rlhf_jax.models.weights import open_weights, read_json

_LAYER = "encoder.layer.{l}"
_EMBEDDINGS = (("word", "token"), ("position", "position"), ("token_type", "type"))
_PRODUCTS = (
    ("attention.self.query", "query"),
    ("attention.self.key", "key"),
    ("attention.self.value", "value"),
    ("attention.output.dense", "out"),
    ("intermediate.dense", "up"),
    ("output.dense", "down"),
)
_NORMS = (("attention.output", "attention_norm"), ("output", "mlp_norm"))
BERT = Family(
    "bert",
    "Bert",
    "bert.",
    (
        *(
            Row(f"embeddings.{t}_embeddings.weight", (f"encoder/{o}_embed/embedding",))
            for t, o in _EMBEDDINGS
        ),
        *norm_rows("embeddings.LayerNorm", "encoder/embed_norm"),
        *(
            row
            for theirs, ours in _PRODUCTS
            for row in product_rows(f"{_LAYER}.{theirs}", f"encoder/layers/{ours}")
        ),
        *(
            row
            for theirs, ours in _NORMS
            for row in norm_rows(
                f"{_LAYER}.{theirs}.LayerNorm", f"encoder/layers/{ours}"
            )
        ),
        *product_rows("pooler.dense", "encoder/pooler"),
    ),
    ignored=(r"^cls\.", r"position_ids$", r"pooler\.", r"^classifier\."),
)
_KEYS = {
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "embed_dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "mlp_dim": "intermediate_size",
    "num_types": "type_vocab_size",
    "norm_eps": "layer_norm_eps",
}


@dataclasses.dataclass(frozen=True)
class PretrainedEncoder:
    """An encoder that was read, under a fresh head.

    Attributes:
      config: of the encoder.
      params: of an `EncoderRewardModel`: {"encoder": .., "head": ..}.
      path: the directory, which holds the tokenizer's files too.
    """

    config: EncoderConfig
    params: dict
    path: pathlib.Path


def load_encoder(
    name: str | pathlib.Path,
    key: jax.Array,
    *,
    shardings: Callable[[Any], Any] | None = None,
    **changes,
) -> PretrainedEncoder:
    """Reads a BERT checkpoint (safetensors) and puts a fresh head on it.

    Args:
      name: a directory in transformers' layout, or a name on the hub.
      key: of the head.
      shardings: as for `load_pretrained`.
      **changes: fields of `EncoderConfig`, such as pooling="mean".

    Raises:
      InputError: not a BERT, or one of the faults that `load_pretrained` names.
    """
    found, sources, weights = _checked(name, changes)
    config, encoder = found.config, {"encoder": found.params["encoder"]}
    read = read_leaves(encoder, sources, weights, config, shardings)
    model = EncoderRewardModel(config)
    head = jax.jit(lambda key: init_params(model, key)["head"])(key)
    return dataclasses.replace(found, params={**read, "head": head})


def encoder_shapes(name: str | pathlib.Path, **changes) -> PretrainedEncoder:
    """As `load_encoder`, all checks of names and shapes included, but no numbers.

    Returns:
      A `PretrainedEncoder` whose params are `jax.ShapeDtypeStruct`s.
    """
    return _checked(name, changes)[0]


def is_encoder(name: str | pathlib.Path) -> bool:
    """Whether a directory in transformers' layout holds a BERT.

    Args:
      name: a directory, or a name on the hub, from where it is then downloaded.

    Raises:
      InputError: there is no such directory, or its config.json cannot be read.
    """
    file = checkpoint_directory(name) / "config.json"
    return file.is_file() and read_json(file).get("model_type") == BERT.name


def _checked(name, changes):
    """What the headers tell: (shapes, where each leaf is, open files)."""
    path = checkpoint_directory(name)
    file = path / "config.json"
    raw = read_json(file)
    if raw.get("model_type") != BERT.name:
        raise InputError(f"{file}: model_type {raw.get('model_type')!r}, not 'bert'")
    require_ranges(raw, str(file))
    if raw.get("hidden_act", "gelu") != "gelu":
        raise InputError(f"{file}: hidden_act {raw['hidden_act']!r}, expected 'gelu'")
    fields = {ours: raw[theirs] for ours, theirs in _KEYS.items() if theirs in raw}
    try:
        config = EncoderConfig(**(fields | changes))
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    shapes = abstract_params(EncoderRewardModel(config))
    weights = open_weights(path)
    encoder = {"encoder": shapes["encoder"]}
    sources = matched(as_stored(BERT, weights), config, encoder, weights)
    return PretrainedEncoder(config, shapes, path), sources, weights

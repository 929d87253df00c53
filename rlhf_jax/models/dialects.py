"""config.json of transformers, old and new dialects <-> `TrunkConfig`.

Old: `rope_theta`, `rope_scaling`, `rotary_pct`, `torch_dtype`. New: `rope_parameters`
and `dtype`. Both are read, both are written. What a config asks for and this trunk
does not have is refused by name.
"""

import math

from rlhf_jax.errors import InputError
from rlhf_jax.models.config import RopeScaling, TrunkConfig

# field of TrunkConfig: (key, what its absence means; ... = must be there)
_COMMON = {
    "vocab_size": ("vocab_size", ...),
    "embed_dim": ("hidden_size", ...),
    "num_layers": ("num_hidden_layers", ...),
    "num_heads": ("num_attention_heads", ...),
    "mlp_dim": ("intermediate_size", ...),
    "context_length": ("max_position_embeddings", 2048),
    "init_std": ("initializer_range", 0.02),
}
_RMS = {**_COMMON, "norm_eps": ("rms_norm_eps", 1e-6)}
_RMS |= {"num_kv_heads": ("num_key_value_heads", None), "head_dim": ("head_dim", None)}
_GEMMA = {**_RMS, "tied_unembedding": ("tie_word_embeddings", True)}
_FREE = {"tied_unembedding": ("tie_word_embeddings", False)}
KEYS = {
    "gpt2": {
        "vocab_size": ("vocab_size", ...),
        "embed_dim": ("n_embd", ...),
        "num_layers": ("n_layer", ...),
        "num_heads": ("n_head", ...),
        "mlp_dim": ("n_inner", None),
        "context_length": ("n_positions", 1024),
        "init_std": ("initializer_range", 0.02),
        "norm_eps": ("layer_norm_epsilon", 1e-5),
        "tied_unembedding": ("tie_word_embeddings", True),
    },
    "gpt_neox": {
        **_COMMON,
        **_FREE,
        "norm_eps": ("layer_norm_eps", 1e-5),
        "parallel_residual": ("use_parallel_residual", True),
        "qkv_bias": ("attention_bias", True),
        "out_bias": ("attention_bias", True),
    },
    "llama": {
        **_RMS,
        **_FREE,
        "qkv_bias": ("attention_bias", False),
        "out_bias": ("attention_bias", False),
        "mlp_bias": ("mlp_bias", False),
    },
    "mistral": {**_RMS, **_FREE},
    "qwen2": {**_RMS, **_FREE},
    "qwen3": {
        **_RMS,
        **_FREE,
        "qkv_bias": ("attention_bias", False),
        "out_bias": ("attention_bias", False),
    },
    "gemma": _GEMMA,
    "gemma2": {
        **_GEMMA,
        "attention_soft_cap": ("attn_logit_softcapping", 50.0),
        "logit_soft_cap": ("final_logit_softcapping", 30.0),
    },
}
_NO_BIAS = {"qkv_bias": False, "out_bias": False, "mlp_bias": False}
_GATED = {"positions": "rotary", "norm": "rms", "gated_mlp": True}
# What a family fixes, not its config.json.
FIXED = {
    "gpt2": {"positions": "learned", "norm": "layer", "gated_mlp": False},
    "gpt_neox": {"positions": "rotary", "norm": "layer", "gated_mlp": False},
    "llama": {**_GATED},
    "mistral": {**_GATED, **_NO_BIAS},
    "qwen2": {**_GATED, **_NO_BIAS, "qkv_bias": True},
    "qwen3": {**_GATED, "mlp_bias": False, "query_key_norm": True},
    "gemma": {**_GATED, **_NO_BIAS, "norm_offset": True},
    "gemma2": {**_GATED, **_NO_BIAS, "norm_offset": True, "post_norms": True},
}
# family: key of the activation, and its value when absent
ACTIVATION_KEYS = {
    "gpt2": ("activation_function", "gelu_new"),
    "gpt_neox": ("hidden_act", "gelu"),
    "gemma": ("hidden_activation", "gelu_pytorch_tanh"),
    "gemma2": ("hidden_activation", "gelu_pytorch_tanh"),
}
ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu": "gelu",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
}
# Settings that would change the numbers in a way this trunk does not know.
_REFUSED = {
    "scale_attn_by_inverse_layer_idx": (False, None),
    "reorder_and_upcast_attn": (False, None),
    "scale_attn_weights": (True, None),
    "add_cross_attention": (False, None),
    "quantization_config": (None,),
    "use_bidirectional_attention": (False, None),
}


def trunk_config(raw: dict, file: str) -> TrunkConfig:
    """The trunk that a config.json describes.

    Args:
      raw: the parsed file.
      file: its name, for errors.

    Raises:
      InputError: unknown family, missing key, or a setting this trunk lacks.
    """
    family = raw.get("model_type")
    if family not in KEYS:
        raise InputError(
            f"{file}: model_type {family!r}: known are {', '.join(KEYS)} "
            "(and bert as an encoder)"
        )
    for key, allowed in _REFUSED.items():
        if key in raw and raw[key] not in allowed:
            raise InputError(f"{file}: {key}={raw[key]!r} is not supported")
    fields = dict(FIXED[family])
    for field, (key, default) in KEYS[family].items():
        value = raw.get(key)
        value = default if value is None and key not in raw else value
        if value is ... or (value is None and default is ...):
            raise InputError(f"{file}: no {key!r}, which {family} needs")
        fields[field] = value
    fields["activation"] = _activation(raw, family, file)
    if fields["positions"] == "rotary":
        fields |= _rope(raw, file)
    if family.startswith("gemma"):
        fields["embed_scale"] = math.sqrt(fields["embed_dim"])
        fields["head_dim"] = fields["head_dim"] or 256
    if family == "gemma2":
        fields["query_scale"] = raw.get("query_pre_attn_scalar", 256) ** -0.5
    fields["windows"] = _windows(raw, family, fields["num_layers"])
    try:
        return TrunkConfig(**fields)
    except (InputError, TypeError) as error:
        raise InputError(f"{file}: {error}") from None


def _activation(raw, family, file):
    key, default = ACTIVATION_KEYS.get(family, ("hidden_act", "silu"))
    name = raw.get(key) or default  # Gemma: hidden_act "gelu" is overruled
    if name not in ACTIVATIONS:
        raise InputError(f"{file}: {key}={name!r}: known are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _rope(raw, file):
    """Rotary fields from either dialect."""
    new = raw.get("rope_parameters") or {}
    old = raw.get("rope_scaling") or {}
    if any(isinstance(value, dict) for value in new.values()):
        raise InputError(f"{file}: rope_parameters per layer type are not supported")
    rope = {**old, **new}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    fraction = rope.get("partial_rotary_factor")
    if fraction is None:
        default = 0.25 if raw["model_type"] == "gpt_neox" else 1.0
        fraction = raw.get("rotary_pct", raw.get("partial_rotary_factor", default))
    theta = (
        rope.get("rope_theta") or raw.get("rope_theta") or raw.get("rotary_emb_base")
    )
    default_theta = 1e6 if raw["model_type"] == "qwen3" else 1e4
    fields = {"rope_theta": float(theta or default_theta), "rope_fraction": fraction}
    if kind == "default":
        return fields
    if kind not in ("linear", "llama3"):
        raise InputError(
            f"{file}: rope type {kind!r}: known are default, linear, llama3"
        )
    names = {"factor": "factor"}
    if kind == "llama3":
        names |= {
            "low_freq_factor": "low_frequency_factor",
            "high_freq_factor": "high_frequency_factor",
            "original_max_position_embeddings": "original_context",
        }
    if missing := [key for key in names if key not in rope]:
        raise InputError(f"{file}: rope type {kind!r} needs {', '.join(missing)}")
    values = {ours: rope[theirs] for theirs, ours in names.items()}
    return {**fields, "rope_scaling": RopeScaling(kind=kind, **values)}


def _windows(raw, family, num_layers):
    """Window of each layer; () where no layer has one."""
    window = raw.get("sliding_window")
    if family == "gemma2":
        window = raw.get("sliding_window", 4096)
    elif family in ("qwen2", "qwen3") and not raw.get("use_sliding_window", False):
        window = None
    elif family not in ("mistral", "qwen2", "qwen3"):
        window = None
    if not window:
        return ()
    kinds = raw.get("layer_types")
    if kinds is None and family == "gemma2":
        kinds = [("sliding", "full")[i % 2] for i in range(num_layers)]
    elif kinds is None and family != "mistral":
        full = raw.get("max_window_layers", 28)
        kinds = ["full" if i < full else "sliding" for i in range(num_layers)]
    elif kinds is None:
        kinds = ["sliding"] * num_layers
    return tuple(window if kind.startswith("sliding") else 0 for kind in kinds)


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
        raw |= _written_rope(config)
    if family == "gpt_neox":
        raw |= {
            "rotary_pct": config.rope_fraction,
            "rotary_emb_base": config.rope_theta,
        }
    if family == "gemma2":
        raw["query_pre_attn_scalar"] = _tidy(config.query_scale**-2)
    return raw | _written_windows(config, family)


def _written_rope(config):
    new = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_fraction != 1.0:
        new["partial_rotary_factor"] = config.rope_fraction
    scaling = config.rope_scaling
    if scaling is None:
        return {"rope_theta": config.rope_theta, "rope_parameters": new}
    old = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        old |= {
            "low_freq_factor": scaling.low_frequency_factor,
            "high_freq_factor": scaling.high_frequency_factor,
            "original_max_position_embeddings": scaling.original_context,
        }
    return {
        "rope_theta": config.rope_theta,
        "rope_scaling": old,
        "rope_parameters": {**new, **old},
    }


def _written_windows(config, family):
    if family not in ("mistral", "qwen2", "qwen3", "gemma2"):
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

"""config.json of transformers, old and new dialects -> `TrunkConfig`.

Old: `rope_theta`, `rope_scaling`, `rotary_pct`, `torch_dtype`. New: `rope_parameters`
and `dtype`. Both are read, and `export` writes both from the same tables. What a config
asks for and this trunk does not have is refused by name.
"""

import math

from rlhf_jax.errors import InputError
from rlhf_jax.models.config import ROPE_KINDS, RopeScaling, TrunkConfig
from rlhf_jax.models.config_json import require_ranges

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
    "gemma3_text": {
        **_GEMMA,
        "context_length": ("max_position_embeddings", 131_072),
        "qkv_bias": ("attention_bias", False),
        "out_bias": ("attention_bias", False),
        "attention_soft_cap": ("attn_logit_softcapping", None),
        "logit_soft_cap": ("final_logit_softcapping", None),
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
    "gemma3_text": {
        **_GATED,
        "mlp_bias": False,
        "norm_offset": True,
        "post_norms": True,
        "query_key_norm": True,
    },
}
# family: key of the activation, and its value when absent
ACTIVATION_KEYS = {
    "gpt2": ("activation_function", "gelu_new"),
    "gpt_neox": ("hidden_act", "gelu"),
    "gemma": ("hidden_activation", "gelu_pytorch_tanh"),
    "gemma2": ("hidden_activation", "gelu_pytorch_tanh"),
    "gemma3_text": ("hidden_activation", "gelu_pytorch_tanh"),
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
_THETA = {"qwen3": 1e6, "gemma3_text": 1e6}  # 1e4 elsewhere
# Settings that would change the numbers in a way this trunk does not know.
_REFUSED = {
    "scale_attn_by_inverse_layer_idx": (False, None),
    "reorder_and_upcast_attn": (False, None),
    "scale_attn_weights": (True, None),
    "add_cross_attention": (False, None),
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
    require_ranges(raw, file)
    family = raw.get("model_type")
    if family == "gemma3":
        raise InputError(
            f"{file}: model_type 'gemma3' reads images too: expected a checkpoint of "
            "its text model, 'gemma3_text'"
        )
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
    if family in ("gemma2", "gemma3_text"):
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
    new, fields = raw.get("rope_parameters") or {}, {}
    if raw["model_type"] == "gemma3_text":
        new, fields = _rope_per_layer(raw, new, file)
    if any(isinstance(value, dict) for value in new.values()):
        raise InputError(f"{file}: rope_parameters per layer type are not supported")
    old = raw.get("rope_scaling") or {}
    kinds = [found.get("rope_type", found.get("type")) for found in (old, new)]
    if all(kinds) and kinds[0] != kinds[1]:
        raise InputError(
            f"{file}: rope_scaling is of type {kinds[0]!r}, rope_parameters of type "
            f"{kinds[1]!r}: expected one of them, or the same in both"
        )
    rope = {**old, **new}
    fraction = rope.get("partial_rotary_factor")
    if fraction is None:
        default = 0.25 if raw["model_type"] == "gpt_neox" else 1.0
        fraction = raw.get("rotary_pct", raw.get("partial_rotary_factor", default))
    theta = (
        rope.get("rope_theta") or raw.get("rope_theta") or raw.get("rotary_emb_base")
    )
    default_theta = _THETA.get(raw["model_type"], 1e4)
    fields |= {"rope_theta": float(theta or default_theta), "rope_fraction": fraction}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return fields
    return {**fields, "rope_scaling": _scaling(kind, rope, raw, file)}


def _rope_per_layer(raw, new, file):
    """Gemma 3's: (what layers without a window have, fields of those with one)."""
    local = new.get("sliding_attention") or {}
    if (local.get("rope_type") or "default") != "default":
        raise InputError(
            f"{file}: rope_parameters.sliding_attention: expected rope_type 'default', "
            f"got {local['rope_type']!r}"
        )
    theta = local.get("rope_theta") or raw.get("rope_local_base_freq") or 1e4
    whole = new.get("full_attention", {} if "sliding_attention" in new else new) or {}
    return whole, {"local_rope_theta": float(theta)}


def _scaling(kind, rope, raw, file) -> RopeScaling:
    """How the frequencies are stretched.

    Raises:
      InputError: in a way that this trunk does not know, or keys are missing.
    """
    if kind not in ROPE_KINDS:
        why = ""
        if kind == "dynamic":
            why = ": its frequencies change with the length of each text, so that"
            why += " what a cache holds would be of another model"
        raise InputError(
            f"{file}: rope type {kind!r}: known are default, "
            f"{', '.join(ROPE_KINDS)}{why}"
        )
    names = {"factor": "factor"}
    if kind == "llama3":
        names |= {
            "low_freq_factor": "low_frequency_factor",
            "high_freq_factor": "high_frequency_factor",
        }
    if kind != "linear":
        names["original_max_position_embeddings"] = "original_context"
    given = {**raw, **rope} if kind == "yarn" else rope  # some keep the context apart
    if missing := [key for key in names if given.get(key) is None]:
        raise InputError(f"{file}: rope type {kind!r} needs {', '.join(missing)}")
    values = {ours: given[theirs] for theirs, ours in names.items()}
    if kind == "yarn":
        values |= {
            "low_frequency_factor": rope.get("beta_slow") or 1.0,
            "high_frequency_factor": rope.get("beta_fast") or 32.0,
            "attention_factor": _yarn_attention(rope),
            "whole_pairs": rope.get("truncate", True),
        }
    return RopeScaling(kind=kind, **values)


def _yarn_attention(rope) -> float:
    """YaRN's factor of cos and sin: 0.1 ln(factor) + 1 (Peng et al. 2023, eq. 22)."""
    if rope.get("attention_factor") is not None:
        return float(rope["attention_factor"])

    def of(scale: float) -> float:
        return 0.1 * scale * math.log(max(rope["factor"], 1.0)) + 1.0

    over, under = rope.get("mscale"), rope.get("mscale_all_dim")
    return of(over) / of(under) if over and under else of(1.0)


def _windows(raw, family, num_layers):
    """Window of each layer; () where no layer has one."""
    window = raw.get("sliding_window")
    if family in ("gemma2", "gemma3_text"):
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
    elif kinds is None and family == "gemma3_text":
        pattern = raw.get("sliding_window_pattern", 6)
        kinds = [("full", "sliding")[(i + 1) % pattern > 0] for i in range(num_layers)]
    elif kinds is None and family != "mistral":
        full = raw.get("max_window_layers", 28)
        kinds = ["full" if i < full else "sliding" for i in range(num_layers)]
    elif kinds is None:
        kinds = ["sliding"] * num_layers
    return tuple(window if kind.startswith("sliding") else 0 for kind in kinds)

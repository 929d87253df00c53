"""What each key of a config.json of transformers may hold, of every family."""

from rlhf_jax.errors import InputError
from rlhf_jax.models.ranges import (
    Flag,
    Kind,
    Number,
    Optional,
    Several,
    problems,
)

__all__ = ["require_ranges"]

_SIZE = Optional(Number(1, 1 << 24, whole=True))
_LENGTH = Optional(Number(0, 1 << 30, whole=True))
_REAL = Optional(Number(1e-30, 1e30))
_EPS = Number(0.0, 1.0)
_ID = Number(-1, 1 << 24, whole=True)
_FLAG = Optional(Flag())
_RANGES = {
    "model_type": Optional(Kind(str)),
    **dict.fromkeys(("vocab_size", "hidden_size", "intermediate_size"), _SIZE),
    **dict.fromkeys(("n_embd", "n_inner", "head_dim", "type_vocab_size"), _SIZE),
    **dict.fromkeys(("num_hidden_layers", "n_layer"), Number(1, 1 << 12, whole=True)),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head"), _SIZE),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), _LENGTH),
    **dict.fromkeys(("sliding_window", "max_window_layers"), _LENGTH),
    "sliding_window_pattern": Number(1, 1 << 12, whole=True),
    **dict.fromkeys(("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"), _EPS),
    "initializer_range": Number(0.0, 1e3),
    **dict.fromkeys(("rope_theta", "rotary_emb_base", "rope_local_base_freq"), _REAL),
    **dict.fromkeys(("rotary_pct", "partial_rotary_factor"), Number(0.0, 1.0)),
    "query_pre_attn_scalar": Number(1e-6, 1e9),
    **dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping"), _REAL),
    **dict.fromkeys(("tie_word_embeddings", "attention_bias", "mlp_bias"), _FLAG),
    **dict.fromkeys(("use_parallel_residual", "use_sliding_window"), _FLAG),
    "layer_types": Optional(Several(Kind(str))),
    **dict.fromkeys(("rope_scaling", "rope_parameters"), Optional(Kind(dict))),
    **dict.fromkeys(("hidden_act", "hidden_activation"), Optional(Kind(str))),
    "activation_function": Optional(Kind(str)),
}
_ROPE_RANGES = {
    **dict.fromkeys(("rope_type", "type"), Optional(Kind(str))),
    **dict.fromkeys(("rope_theta", "factor", "low_freq_factor"), _REAL),
    **dict.fromkeys(("high_freq_factor", "beta_slow", "beta_fast"), _REAL),
    **dict.fromkeys(("attention_factor", "mscale", "mscale_all_dim"), _REAL),
    "partial_rotary_factor": Optional(Number(0.0, 1.0)),
    "original_max_position_embeddings": _LENGTH,
    "truncate": _FLAG,
}


def require_ranges(raw: dict, file: str) -> None:
    """Refuses a config.json with a key of another type or range than it can have.

    Args:
      raw: the parsed file, of any family that is read, an encoder too.
      file: its name, for errors.

    Raises:
      InputError: names the first ones.
    """
    wrong = list(problems(raw, _RANGES))
    for key in ("rope_parameters", "rope_scaling"):
        if not isinstance(raw.get(key), dict):
            continue
        ropes = {key: raw[key]}
        ropes |= {f"{key}.{n}": v for n, v in ropes[key].items() if isinstance(v, dict)}
        for name, rope in ropes.items():
            wrong += [f"{name}.{line}" for line in problems(rope, _ROPE_RANGES)]
    if wrong:
        raise InputError(f"{file}: {'; '.join(wrong[:3])}")

"""What a decoder is: one frozen dataclass for every family, no subclasses."""

import dataclasses
import math

from rlhf_jax.errors import InputError
from rlhf_jax.models import ranges
from rlhf_jax.models.ranges import Choice, Flag, Kind, Number, Optional, Several

ACTIVATIONS = ("gelu", "gelu_tanh", "silu", "relu")
ATTENTIONS = ("xla", "cudnn", "splash")
ROPE_KINDS = ("linear", "llama3", "yarn")
DTYPES = ("float32", "bfloat16", "float16")
REMATS = ("none", "products", "full")
MOST_PARAMETERS = 1 << 44  # 70 TB of float32; the largest known have 2^41

_SIZE = Number(1, 1 << 24, whole=True)
_POSITIVE = Number(1e-30, 1e30)
_ROPE_RANGES = {
    "kind": Choice(ROPE_KINDS),
    "factor": Number(1e-3, 1e6),
    "low_frequency_factor": Number(1e-6, 1e6),
    "high_frequency_factor": Number(1e-6, 1e6),
    "original_context": Number(1, 1 << 30, whole=True),
    "attention_factor": Number(1e-6, 1e6),
    "whole_pairs": Flag(),
}


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the pretraining context.

    Attributes:
      kind: "linear" divides every frequency by `factor`; "llama3" divides the low
        ones, leaves the high ones and blends between by wavelength (Llama 3.1); "yarn"
        blends by place among the pairs, and scales cos and sin (Peng et al. 2023).
      factor: of the stretch.
      low_frequency_factor: "llama3": wavelengths above original_context / this are
        divided. "yarn": pairs that turn less often than this are (beta_slow).
      high_frequency_factor: "llama3": wavelengths below original_context / this are
        kept. "yarn": pairs that turn more often than this are (beta_fast).
      original_context: of pretraining [tokens].
      attention_factor: of cos and sin.
      whole_pairs: "yarn": the blend begins and ends at whole pairs (truncate).
    """

    kind: str = "llama3"
    factor: float = 1.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_context: int = 8192
    attention_factor: float = 1.0
    whole_pairs: bool = True

    def __post_init__(self):
        if wrong := list(ranges.problems(self, _ROPE_RANGES)):
            raise InputError("rope scaling: " + "; ".join(wrong))


# what must hold before anything is derived from it
_GIVEN = {
    "vocab_size": _SIZE,
    "context_length": Number(1, 1 << 30, whole=True),
    "embed_dim": _SIZE,
    "num_layers": Number(1, 1 << 12, whole=True),
    "num_heads": Number(1, 1 << 14, whole=True),
    "num_kv_heads": Optional(Number(1, 1 << 14, whole=True)),
    "head_dim": Optional(_SIZE),
    "mlp_dim": Optional(_SIZE),
    "query_scale": Optional(_POSITIVE),
    "windows": Several(Number(0, 1 << 30, whole=True)),
}
_RANGES = {
    "num_kv_heads": Number(1, 1 << 14, whole=True),
    "head_dim": _SIZE,
    "mlp_dim": _SIZE,
    "positions": Choice(("learned", "rotary")),
    "rope_theta": _POSITIVE,
    "rope_fraction": Number(0.0, 1.0),
    "rope_scaling": Optional(Kind(RopeScaling)),
    "local_rope_theta": Optional(_POSITIVE),
    "norm": Choice(("layer", "rms")),
    "norm_eps": Number(0.0, 1.0),
    "norm_offset": Flag(),
    "post_norms": Flag(),
    "parallel_residual": Flag(),
    "activation": Choice(ACTIVATIONS),
    "gated_mlp": Flag(),
    "qkv_bias": Flag(),
    "out_bias": Flag(),
    "mlp_bias": Flag(),
    "query_key_norm": Flag(),
    "attention_soft_cap": Optional(_POSITIVE),
    "logit_soft_cap": Optional(_POSITIVE),
    "embed_scale": _POSITIVE,
    "tied_unembedding": Flag(),
    "residual_dropout": Number(0.0, 1.0, below=True),
    "init_std": Number(0.0, 1e3),
    "dtype": Choice(DTYPES),
    "attention": Choice(ATTENTIONS),
    "remat": Choice(REMATS),
}


@dataclasses.dataclass(frozen=True)
class TrunkConfig:
    """A decoder, by its fields. The defaults are GPT-2's and GPT-3's (Brown 2020).

    Attributes:
      vocab_size: V, rows of the embedding.
      context_length: longest sequence [tokens].
      embed_dim: D, the width.
      num_layers: L.
      num_heads: N, of queries.
      num_kv_heads: of keys and values (grouped-query attention); None: N.
      head_dim: H; None: D / N.
      mlp_dim: hidden width of the MLP; None: 4 D.
      positions: "learned" or "rotary".
      rope_theta: base of the rotary frequencies.
      rope_fraction: part of each head that rotates (GPT-NeoX: 0.25).
      rope_scaling: of the rotary frequencies; None: none.
      local_rope_theta: base in the layers that have a window, unscaled (Gemma 3);
        None: as in the others.
      norm: "layer" or "rms".
      norm_eps: added to the variance.
      norm_offset: scales are stored as 1 + w (Gemma).
      post_norms: a norm also after attention and MLP, before the sum (Gemma 2).
      parallel_residual: x + attention(norm x) + mlp(norm' x) (GPT-NeoX).
      activation: of the MLP: "gelu", "gelu_tanh", "silu" or "relu".
      gated_mlp: down(activation(gate x) * up x): SwiGLU, GeGLU.
      qkv_bias: biases on query, key and value.
      out_bias: bias on the output of attention.
      mlp_bias: biases in the MLP.
      query_key_norm: RMS norm of each query and key head (Qwen 3).
      query_scale: factor on the scores; None: 1/sqrt(H).
      attention_soft_cap: c tanh(scores / c) (Gemma 2); None: none.
      logit_soft_cap: the same on logits; None: none.
      windows: how many tokens back each layer sees, itself included; 0: all; ():
        all layers see all.
      embed_scale: factor on embeddings (Gemma: sqrt(D)).
      tied_unembedding: logits by the embedding itself.
      residual_dropout: rate on what each block adds and on the embedding (SFT of
        InstructGPT: 0.2, appendix C.1); acts when deterministic=False.
      init_std: standard deviation of fresh matrices (GPT-2: 0.02).
      dtype: of activations and products; norms, softmax and losses are float32.
      attention: "xla" (everywhere), "cudnn" (NVIDIA) or "splash" (TPU).
      remat: what the backward pass computes again: "none", what is not a matrix
        product ("products"), or each layer from its input ("full", in the least
        memory). True and False, of older files, are "products" and "none".

    Raises:
      InputError: fields that contradict each other.
    """

    vocab_size: int
    context_length: int
    embed_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int | None = None
    head_dim: int | None = None
    mlp_dim: int | None = None
    positions: str = "learned"
    rope_theta: float = 10_000.0
    rope_fraction: float = 1.0
    rope_scaling: RopeScaling | None = None
    local_rope_theta: float | None = None
    norm: str = "layer"
    norm_eps: float = 1e-5
    norm_offset: bool = False
    post_norms: bool = False
    parallel_residual: bool = False
    activation: str = "gelu_tanh"
    gated_mlp: bool = False
    qkv_bias: bool = True
    out_bias: bool = True
    mlp_bias: bool = True
    query_key_norm: bool = False
    query_scale: float | None = None
    attention_soft_cap: float | None = None
    logit_soft_cap: float | None = None
    windows: tuple[int, ...] = ()
    embed_scale: float = 1.0
    tied_unembedding: bool = True
    residual_dropout: float = 0.0
    init_std: float = 0.02
    dtype: str = "float32"
    attention: str = "xla"
    remat: str | bool = "products"

    def __post_init__(self):
        if wrong := list(ranges.problems(self, _GIVEN)):
            raise InputError("model config: " + "; ".join(wrong))
        derived = {
            "num_kv_heads": self.num_heads,
            "head_dim": self.embed_dim // self.num_heads,
            "mlp_dim": 4 * self.embed_dim,
        }
        for name, value in derived.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.query_scale is None and self.head_dim:
            object.__setattr__(self, "query_scale", 1 / math.sqrt(self.head_dim))
        object.__setattr__(self, "windows", tuple(self.windows))
        if isinstance(self.remat, bool):
            object.__setattr__(self, "remat", "products" if self.remat else "none")
        problems = list(_problems(self))
        if problems:
            raise InputError("model config: " + "; ".join(problems))

    @property
    def rotary_dim(self) -> int:
        """How many of the H numbers of a head rotate."""
        return int(self.head_dim * self.rope_fraction)


def _problems(config: TrunkConfig):
    """What contradicts itself, one sentence each."""
    c = config
    if wrong := list(ranges.problems(c, _RANGES)):
        yield from wrong
        return
    if c.num_heads % c.num_kv_heads:
        yield f"num_heads {c.num_heads} is no multiple of num_kv_heads {c.num_kv_heads}"
    if c.windows and len(c.windows) != c.num_layers:
        yield f"windows has {len(c.windows)} entries for {c.num_layers} layers"
    if c.positions == "rotary" and (c.rotary_dim < 2 or c.rotary_dim % 2):
        yield f"rotary needs an even part of head_dim; {c.rotary_dim} would rotate"
    if (count := _parameters(c)) > MOST_PARAMETERS:
        yield f"{count:.1e} parameters, expected at most {MOST_PARAMETERS:.1e}"


def _parameters(c: TrunkConfig) -> int:
    """Those of the products and of the embedding, about; no norms and biases."""
    heads = 2 * c.num_heads + 2 * c.num_kv_heads
    layer = c.embed_dim * (heads * c.head_dim + (2 + c.gated_mlp) * c.mlp_dim)
    rows = c.vocab_size + (c.context_length if c.positions == "learned" else 0)
    return c.num_layers * layer + rows * c.embed_dim

"""The tensors of each family of transformers' checkpoints: one table, read both ways.

A row names one tensor of theirs, the leaf or leaves of ours in it, and its layout.
Loading looks a leaf up; export writes the rows. `{l}` is a layer: leaves under
`trunk/layers` are stacked over it.

Layouts (theirs <-> ours):
  same        as it stands
  transposed  torch's Linear [out, in] <-> [in, out]
  columns     query, key and value side by side along the last axis (GPT-2's Conv1D)
  per_head    query, key and value of head 0, then of head 1, .. (GPT-NeoX)
"""

import dataclasses

import numpy as np

from rlhf_jax.models.config import TrunkConfig


@dataclasses.dataclass(frozen=True)
class Row:
    """One tensor: its name without the family's prefix, our leaves, the layout."""

    theirs: str
    ours: tuple[str, ...]
    layout: str = "same"


@dataclasses.dataclass(frozen=True)
class Family:
    """How transformers lays out one architecture.

    Attributes:
      name: `model_type` of config.json.
      architecture: class name without "ForCausalLM" / "ForSequenceClassification".
      prefix: of every tensor but the heads.
      rows: all tensors a config of this family can have, heads apart.
      unembedding: name of the free unembedding.
      ignored: regular expressions of tensors that carry no parameter.
    """

    name: str
    architecture: str
    prefix: str
    rows: tuple[Row, ...]
    unembedding: str = "lm_head.weight"
    ignored: tuple[str, ...] = (r"rotary_emb\.inv_freq$",)

    @property
    def causal(self) -> str:
        """Name of the language model's class."""
        named = {"gpt2": "GPT2LMHeadModel", "gemma3_text": "Gemma3ForCausalLM"}
        return named.get(self.name, f"{self.architecture}ForCausalLM")

    def tensors(self, names: set[str], config: TrunkConfig) -> dict[str, Row]:
        """Full name of theirs -> row, for the leaves that a model has.

        Args:
          names: paths of the model's leaves, as "trunk/layers/mlp/up/kernel".
          config: of the trunk.
        """
        free = Row(self.unembedding, ("unembedding",))
        rows = [(free, ""), *((row, self.prefix) for row in self.rows)]
        rows += [(row, "") for row in HEAD]
        found = {}
        for row, prefix in rows:
            if not names.issuperset(row.ours):
                continue
            layers = range(config.num_layers) if "{l}" in row.theirs else [None]
            for layer in layers:
                found[prefix + row.theirs.format(l=layer)] = row
        return found


HEAD = (
    Row("score.weight", ("head/kernel",), "transposed"),
    Row("score.bias", ("head/bias",)),
)


def product_rows(theirs: str, ours: str, layout: str = "transposed") -> tuple[Row, Row]:
    """A product's weight and bias."""
    return (
        Row(f"{theirs}.weight", (f"{ours}/kernel",), layout),
        Row(f"{theirs}.bias", (f"{ours}/bias",)),
    )


def norm_rows(theirs: str, ours: str) -> tuple[Row, Row]:
    """A norm's scale and bias."""
    return (
        Row(f"{theirs}.weight", (f"{ours}/scale",)),
        Row(f"{theirs}.bias", (f"{ours}/bias",)),
    )


_LAYERS = "trunk/layers"
_QKV = tuple(f"{_LAYERS}/attention/{name}" for name in ("query", "key", "value"))


def _fused(theirs: str, layout: str) -> tuple[Row, Row]:
    """Query, key and value in one tensor."""
    return tuple(
        Row(f"{theirs}.{t}", tuple(f"{path}/{o}" for path in _QKV), layout)
        for t, o in (("weight", "kernel"), ("bias", "bias"))
    )


GPT2 = Family(
    "gpt2",
    "GPT2",
    "transformer.",
    (
        Row("wte.weight", ("trunk/token_embed/embedding",)),
        Row("wpe.weight", ("trunk/position_embed/embedding",)),
        *norm_rows("h.{l}.ln_1", f"{_LAYERS}/attention_norm"),
        *_fused("h.{l}.attn.c_attn", "columns"),
        *product_rows("h.{l}.attn.c_proj", f"{_LAYERS}/attention/out", "same"),
        *norm_rows("h.{l}.ln_2", f"{_LAYERS}/mlp_norm"),
        *product_rows("h.{l}.mlp.c_fc", f"{_LAYERS}/mlp/up", "same"),
        *product_rows("h.{l}.mlp.c_proj", f"{_LAYERS}/mlp/down", "same"),
        *norm_rows("ln_f", "trunk/final_norm"),
    ),
    ignored=(r"attn\.(masked_)?bias$",),
)

GPT_NEOX = Family(
    "gpt_neox",
    "GPTNeoX",
    "gpt_neox.",
    (
        Row("embed_in.weight", ("trunk/token_embed/embedding",)),
        *norm_rows("layers.{l}.input_layernorm", f"{_LAYERS}/attention_norm"),
        *_fused("layers.{l}.attention.query_key_value", "per_head"),
        *product_rows("layers.{l}.attention.dense", f"{_LAYERS}/attention/out"),
        *norm_rows("layers.{l}.post_attention_layernorm", f"{_LAYERS}/mlp_norm"),
        *product_rows("layers.{l}.mlp.dense_h_to_4h", f"{_LAYERS}/mlp/up"),
        *product_rows("layers.{l}.mlp.dense_4h_to_h", f"{_LAYERS}/mlp/down"),
        *norm_rows("final_layer_norm", "trunk/final_norm"),
    ),
    unembedding="embed_out.weight",
    ignored=(r"attention\.(masked_)?bias$", r"rotary_emb\.inv_freq$"),
)


def _llama(name: str, architecture: str, post_norms: bool = False) -> Family:
    """Llama's names, which Mistral, Qwen and Gemma share."""
    layer = "layers.{l}"
    norms = (("post_attention_layernorm", "mlp_norm"),)
    if post_norms:
        norms = (
            ("post_attention_layernorm", "post_attention_norm"),
            ("pre_feedforward_layernorm", "mlp_norm"),
            ("post_feedforward_layernorm", "post_mlp_norm"),
        )
    heads = (("q", "query"), ("k", "key"), ("v", "value"), ("o", "out"))
    rows = [
        Row("embed_tokens.weight", ("trunk/token_embed/embedding",)),
        Row(f"{layer}.input_layernorm.weight", (f"{_LAYERS}/attention_norm/scale",)),
        Row("norm.weight", ("trunk/final_norm/scale",)),
    ]
    for theirs, ours in norms:
        rows.append(Row(f"{layer}.{theirs}.weight", (f"{_LAYERS}/{ours}/scale",)))
    for theirs, ours in heads:
        rows += product_rows(
            f"{layer}.self_attn.{theirs}_proj", f"{_LAYERS}/attention/{ours}"
        )
    for theirs, ours in (("q_norm", "query_norm"), ("k_norm", "key_norm")):
        path = f"{_LAYERS}/attention/{ours}/scale"
        rows.append(Row(f"{layer}.self_attn.{theirs}.weight", (path,)))
    for part in ("gate", "up", "down"):
        rows += product_rows(f"{layer}.mlp.{part}_proj", f"{_LAYERS}/mlp/{part}")
    return Family(name, architecture, "model.", tuple(rows))


FAMILIES = {
    family.name: family
    for family in (
        GPT2,
        GPT_NEOX,
        _llama("llama", "Llama"),
        _llama("mistral", "Mistral"),
        _llama("qwen2", "Qwen2"),
        _llama("qwen3", "Qwen3"),
        _llama("gemma", "Gemma"),
        _llama("gemma2", "Gemma2", post_norms=True),
        _llama("gemma3_text", "Gemma3Text", post_norms=True),
    )
}


def ours_of(tensor: np.ndarray, row: Row, leaf: str, config: TrunkConfig) -> np.ndarray:
    """The leaf's part of one tensor of theirs, in our layout.

    >>> row = Row("c_attn.weight", ("query", "key", "value"), "columns")
    >>> ours_of(np.arange(6).reshape(1, 6), row, "key", None)
    array([[2, 3]])
    """
    part = row.ours.index(leaf)
    if row.layout == "transposed":
        return tensor.T
    if row.layout == "columns":
        return np.split(tensor, len(row.ours), axis=-1)[part]
    if row.layout == "per_head":
        heads, width = config.num_heads, config.head_dim
        tensor = tensor.reshape(heads, 3, width, *tensor.shape[1:])[:, part]
        return tensor.reshape(heads * width, *tensor.shape[2:]).T
    return tensor


def theirs_of(leaves: list[np.ndarray], row: Row, config: TrunkConfig) -> np.ndarray:
    """One tensor of theirs from our leaves: the inverse of `ours_of`."""
    if row.layout == "transposed":
        return leaves[0].T
    if row.layout == "columns":
        return np.concatenate(leaves, axis=-1)
    if row.layout == "per_head":
        heads, width = config.num_heads, config.head_dim
        parts = [leaf.T.reshape(heads, width, *leaf.T.shape[1:]) for leaf in leaves]
        joined = np.stack(parts, axis=1)  # [N, 3, H, ..]
        return joined.reshape(heads * 3 * width, *joined.shape[3:])
    return leaves[0]


def shape_of_theirs(shapes: list[tuple[int, ...]], row: Row) -> tuple[int, ...]:
    """The shape that one tensor of theirs must have, given those of our leaves."""
    first = shapes[0]
    if row.layout == "columns":
        return (*first[:-1], sum(shape[-1] for shape in shapes))
    if row.layout == "per_head":
        return (3 * first[-1], *first[:-1])
    return first[::-1] if row.layout == "transposed" else first

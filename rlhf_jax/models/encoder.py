"""The encoder reward model: a baseline beside the decoder with a scalar head.

    score = w · (BERT(instruction) ⊕ BERT(response)) + b

Instruction and response are read apart, by the same encoder, so neither attends to the
other, and w's half for the instruction gives all responses to it the same number: it
cancels wherever they are compared. The comparison with a decoder over the pair shows
what that costs.

Source: Devlin et al. 2019 for the encoder; the form of the score as commonly described
in expositions of reward modelling, InstructGPT itself uses a decoder.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.errors import InputError
from rlhf_jax.layouts import contracted
from rlhf_jax.models.attention import NO_TOKEN, Places, Rule, attend
from rlhf_jax.models.heads import Head
from rlhf_jax.models.products import Dense

POOLINGS = ("cls", "mean", "pooler")


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """A BERT (defaults: bert-base-uncased).

    Attributes:
      vocab_size: V.
      context_length: learned positions [tokens].
      embed_dim: D.
      num_layers: L.
      num_heads: N.
      mlp_dim: hidden width of the MLP.
      num_types: rows of the token-type embedding; all tokens are of type 0.
      norm_eps: added to the variance.
      pooling: what BERT(x) is: "cls" the first real token's state, "mean" over real
        tokens, or "pooler", tanh(W cls + b) as pretrained.
      init_std: of fresh matrices.
      dtype: compute dtype.
    """

    vocab_size: int = 30_522
    context_length: int = 512
    embed_dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_dim: int = 3072
    num_types: int = 2
    norm_eps: float = 1e-12
    pooling: str = "cls"
    init_std: float = 0.02
    dtype: str = "float32"

    def __post_init__(self):
        if self.pooling not in POOLINGS:
            raise InputError(f"pooling {self.pooling!r}: expected one of {POOLINGS}")
        if self.embed_dim % self.num_heads:
            raise InputError(
                f"embed_dim {self.embed_dim} is no multiple of num_heads "
                f"{self.num_heads}"
            )


class Encoder(nn.Module):
    """BERT: tokens to states that see both ways, and one vector per row."""

    config: EncoderConfig

    def setup(self):
        c = self.config
        fresh = nn.initializers.normal(c.init_std)

        def table(rows):
            return nn.Embed(rows, c.embed_dim, embedding_init=fresh)

        self.token_embed = table(c.vocab_size)
        self.position_embed = table(c.context_length)
        self.type_embed = table(c.num_types)
        self.embed_norm = _norm(c)
        if self.is_initializing():
            self.layers = self.param("layers", _fresh_layers, c)
        else:
            self.layers = self.get_variable("params", "layers")
        if c.pooling == "pooler":
            self.pooler = Dense(c.embed_dim, True, c.dtype, c.init_std)

    def __call__(
        self, tokens: Int[Array, "B T"], valid: Bool[Array, "B T"]
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B D"]]:
        """States of all tokens, and BERT(x), the vector of each row.

        Args:
          tokens: ids, special tokens ([CLS], [SEP]) included.
          valid: true at real tokens; padding on either side.

        Raises:
          ValueError: more tokens than positions.
        """
        c = self.config
        if tokens.shape[1] > c.context_length:
            raise ValueError(
                f"{tokens.shape[1]} tokens, but the context is {c.context_length}"
            )
        count = jnp.maximum(jnp.cumsum(valid, axis=1, dtype=jnp.int32) - 1, 0)
        x = self.token_embed(jnp.where(valid, tokens, 0)) + self.position_embed(count)
        x = x + self.type_embed(jnp.zeros_like(tokens))
        x = self.embed_norm(x).astype(c.dtype)
        everywhere = jnp.zeros(valid.shape, jnp.int32)  # no order: all see all
        places = Places(everywhere, jnp.where(valid, 0, NO_TOKEN))
        layer = EncoderLayer(c, parent=None)
        step = lambda x, params: (layer.apply({"params": params}, x, places), None)  # noqa: E731
        x, _ = jax.lax.scan(jax.checkpoint(step, prevent_cse=False), x, self.layers)
        return x, self._pooled(x, valid)

    def _pooled(self, x, valid):
        if self.config.pooling == "mean":
            weights = valid.astype(jnp.float32)
            weights = weights / jnp.maximum(weights.sum(axis=1, keepdims=True), 1.0)
            return contracted("btd,bt->bd", x.astype(jnp.float32), weights)
        first = jnp.argmax(valid, axis=1)
        x = jnp.take_along_axis(x, first[:, None, None], axis=1)[:, 0]
        return jnp.tanh(self.pooler(x)) if self.config.pooling == "pooler" else x


class EncoderLayer(nn.Module):
    """norm(x + attention(x)), then norm(x + mlp(x)): norms after the sums."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], places: Places):
        c = self.config
        width = c.embed_dim // c.num_heads

        def dense(size, name):
            return Dense(size, True, c.dtype, c.init_std, name=name)

        def heads(name):
            out = dense(c.embed_dim, name)(x).reshape(*x.shape[:2], c.num_heads, width)
            return out.swapaxes(1, 2)

        query = (heads("query") * width**-0.5)[:, :, None]
        queries = Places(places.positions, jnp.zeros_like(places.segments))
        out, _ = attend(
            Rule(), query, heads("key"), heads("value"), queries, places, None
        )
        out = out[:, :, 0].swapaxes(1, 2).reshape(x.shape).astype(c.dtype)
        x = _norm(c, "attention_norm")(x + dense(c.embed_dim, "out")(out))
        x = x.astype(c.dtype)
        up = jax.nn.gelu(dense(c.mlp_dim, "up")(x), approximate=False)
        return _norm(c, "mlp_norm")(x + dense(c.embed_dim, "down")(up)).astype(c.dtype)


class EncoderRewardModel(nn.Module):
    """score = w · (BERT(instruction) ⊕ BERT(response)) + b.

    params: {"encoder": ..., "head": {"kernel": [2D, 1], "bias": [1]}}
    """

    config: EncoderConfig

    def setup(self):
        self.encoder = Encoder(self.config)
        self.head = Head()

    def __call__(
        self,
        prompts: Int[Array, "B P"],
        prompt_valid: Bool[Array, "B P"],
        responses: Int[Array, "B K R"],
        response_valid: Bool[Array, "B K R"],
    ) -> Float[Array, "B K"]:
        """Scores of K responses per prompt; each prompt is read once.

        Args:
          prompts: instructions, in the encoder's own tokens.
          prompt_valid: true at real tokens.
          responses: K per prompt.
          response_valid: true at real tokens.
        """
        return self.head(
            self.features(prompts, prompt_valid, responses, response_valid)
        )

    @nn.nowrap
    def rows(self) -> tuple[Array, Array, Array, Array]:
        """The smallest arguments of a call, for `init_params`."""
        tokens, valid = jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), bool)
        return tokens, valid, tokens[None], valid[None]

    def features(
        self, prompts, prompt_valid, responses, response_valid
    ) -> Float[Array, "B K F"]:
        """BERT(instruction) ⊕ BERT(response), F = 2D, float32."""
        batch, count, width = responses.shape
        _, one = self.encoder(prompts, prompt_valid)
        _, two = self.encoder(
            responses.reshape(-1, width), response_valid.reshape(-1, width)
        )
        two = two.reshape(batch, count, -1)
        one = jnp.broadcast_to(one[:, None], two.shape)
        return jnp.concatenate([one, two], axis=-1).astype(jnp.float32)


def _norm(config, name=None):
    return nn.LayerNorm(config.norm_eps, dtype=jnp.float32, name=name)


def _fresh_layers(key, config: EncoderConfig) -> dict:
    layer = EncoderLayer(config, parent=None)
    x = jnp.zeros((1, 1, config.embed_dim), config.dtype)
    places = Places(jnp.zeros((1, 1), jnp.int32), jnp.zeros((1, 1), jnp.int32))
    keys = jax.random.split(key, config.num_layers)
    return jax.vmap(lambda key: layer.init(key, x, places)["params"])(keys)

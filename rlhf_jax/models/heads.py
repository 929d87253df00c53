"""The two models of RLHF: one trunk, two heads.

A policy and its reference are a `LanguageModel`; a reward model and a value function
are a `ScalarModel`. Handing over is dict arithmetic:

    reward = {**init_params(ScalarModel(config), key), "trunk": sft["trunk"]}
    value = reward
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from rlhf_jax.layouts import contracted
from rlhf_jax.models.config import TrunkConfig
from rlhf_jax.models.trunk import Trunk


class LanguageModel(nn.Module):
    """A trunk and an unembedding: the log-probabilities of the next token.

    params: {"trunk": ..., "unembedding": [V, D]}, the latter only when not tied.
    """

    config: TrunkConfig

    def setup(self):
        c = self.config
        self.trunk = Trunk(c)
        if not c.tied_unembedding:
            fresh = nn.initializers.normal(c.init_std)
            shape = (c.vocab_size, c.embed_dim)
            self.free = self.param("unembedding", fresh, shape)

    def __call__(self, tokens, valid=None, **kwargs):
        """Logits [B, T, V] float32, whole: for tests and evaluation, not training.

        Args and errors: those of `Trunk`; with `cache`, (logits, cache).
        """
        out = self.trunk(tokens, valid, **kwargs)
        hidden, *rest = out if kwargs.get("cache") is not None else (out,)
        if self.config.tied_unembedding:
            table = self.trunk.token_embed.embedding
        else:
            table = self.free
        logits = _logits(self.config, hidden, table)
        return (logits, *rest) if rest else logits

    def hidden(self, tokens, valid=None, **kwargs):
        """Final hidden states [B, T, D], for losses that never hold all logits.

        Args and errors: those of `Trunk`; with `cache`, (hidden, cache).
        """
        return self.trunk(tokens, valid, **kwargs)

    @nn.nowrap
    def unembedding(self, params: dict) -> Float[Array, "V D"]:
        """The matrix that makes logits of hidden states: tied or free."""
        if self.config.tied_unembedding:
            return params["trunk"]["token_embed"]["embedding"]
        return params["unembedding"]

    @nn.nowrap
    def logits(
        self, params: dict, hidden: Float[Array, "*R D"]
    ) -> Float[Array, "*R V"]:
        """Logits of some hidden states, float32, soft cap included."""
        return _logits(self.config, hidden, self.unembedding(params))


class ScalarModel(nn.Module):
    """A trunk and a head of one number: r = w · h + b.

    As a reward model the score of a sequence is the number at its last real token
    (Ouyang et al. 2022, section 3.5: the unembedding is removed, the head projects to
    a scalar); as a value function there is one at every token.

    params: {"trunk": ..., "head": {"kernel": [D, 1], "bias": [1]}}
    """

    config: TrunkConfig

    def setup(self):
        self.trunk = Trunk(self.config)
        self.head = Head()

    def __call__(self, tokens, valid=None, **kwargs):
        """Values [B, T] float32.

        Args and errors: those of `Trunk`; with `cache`, (values, cache).
        """
        out = self.trunk(tokens, valid, **kwargs)
        hidden, *rest = out if kwargs.get("cache") is not None else (out,)
        values = self.head(hidden)
        return (values, *rest) if rest else values


class Head(nn.Module):
    """h -> w · h + b in float32; w starts as N(0, 1/(D+1)), b as 0.

    Source: Stiennon et al. 2020, appendix B.1, for the initialisation; InstructGPT
    does not state one.
    """

    @nn.compact
    def __call__(self, hidden: Float[Array, "*R D"]) -> Float[Array, "*R"]:
        width = hidden.shape[-1]
        fresh = nn.initializers.normal((width + 1) ** -0.5)
        kernel = self.param("kernel", fresh, (width, 1))
        bias = self.param("bias", nn.initializers.zeros, (1,))
        values = contracted(
            "...i,io->...o", hidden.astype(jnp.float32), kernel.astype(jnp.float32)
        )
        return values[..., 0] + bias.astype(jnp.float32)[0]


def init_params(model: nn.Module, key: PRNGKeyArray) -> dict:
    """Fresh parameters: plain nested dicts, float32, layers stacked.

    Pure: under `jax.eval_shape` it gives shapes, under `jax.jit` with `out_shardings`
    every leaf is born on its shard.

    Args:
      model: a model of any kind; one that takes more than tokens has `rows()`.
      key: of the params.
    """
    rows = model.rows() if hasattr(model, "rows") else (jnp.zeros((1, 2), jnp.int32),)
    return model.init(key, *rows)["params"]


def last_values(values: Float[Array, "B T"], valid: jax.Array) -> Float[Array, "B"]:
    """The value at the last real token of each row: the score of a sequence.

    0 where a row has no token.
    """
    slots = jnp.arange(values.shape[1], dtype=jnp.int32)
    last = jnp.where(valid, slots[None], -1).max(axis=1)
    picked = jnp.take_along_axis(values, jnp.maximum(last, 0)[:, None], axis=1)[:, 0]
    return jnp.where(last >= 0, picked, 0.0)


def _logits(config, hidden, table):
    hidden, table = hidden.astype(config.dtype), table.astype(config.dtype)
    logits = contracted("...d,vd->...v", hidden, table)
    cap = config.logit_soft_cap
    return logits if cap is None else cap * jnp.tanh(logits / cap)

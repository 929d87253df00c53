"""One layer: attention and MLP around the residual stream."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from rlhf_jax.layouts import kept_heads
from rlhf_jax.models.config import TrunkConfig
from rlhf_jax.models.norms import Norm
from rlhf_jax.models.positions import rotated
from rlhf_jax.models.products import Dense

# (query [B T N H], key [B T Nkv H], value) -> (out [B T N H], what to keep)
Mixer = Callable[[Array, Array, Array], tuple[Array, object]]


class Attention(nn.Module):
    """Projects to heads, lets `mix` look around, and projects back."""

    config: TrunkConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], angles, mix: Mixer):
        c = self.config

        def heads(name, count):
            out = _dense(c, count * c.head_dim, c.qkv_bias, name)(x)
            return kept_heads(out.reshape(*x.shape[:2], count, c.head_dim))

        query = heads("query", c.num_heads)
        key = heads("key", c.num_kv_heads)
        value = heads("value", c.num_kv_heads)
        if c.query_key_norm:
            query = Norm(c, kind="rms", name="query_norm")(query)
            key = Norm(c, kind="rms", name="key_norm")(key)
        if angles is not None:
            query, key = rotated(query, *angles), rotated(key, *angles)
        query = (query.astype(jnp.float32) * c.query_scale).astype(c.dtype)
        out, kept = mix(query, key.astype(c.dtype), value)
        out = out.reshape(*x.shape[:2], c.num_heads * c.head_dim)
        return _dense(c, c.embed_dim, c.out_bias, "out", residual=True)(out), kept


class MLP(nn.Module):
    """down(f(up x)), or down(f(gate x) · up x) when gated."""

    config: TrunkConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        c = self.config
        up = _dense(c, c.mlp_dim, c.mlp_bias, "up")(x)
        if c.gated_mlp:
            up = up * activated(_dense(c, c.mlp_dim, c.mlp_bias, "gate")(x), c)
        else:
            up = activated(up, c)
        return _dense(c, c.embed_dim, c.mlp_bias, "down", residual=True)(up)


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x); or both at once in parallel."""

    config: TrunkConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], angles, mix: Mixer, deterministic):
        c = self.config

        def added(branch, name):
            if c.post_norms:
                branch = Norm(c, name=f"post_{name}_norm")(branch)
            return nn.Dropout(c.residual_dropout)(branch, deterministic=deterministic)

        normed = Norm(c, name="attention_norm")(x)
        attention, kept = Attention(c, name="attention")(normed, angles, mix)
        middle = x + added(attention, "attention")
        normed = Norm(c, name="mlp_norm")(x if c.parallel_residual else middle)
        return middle + added(MLP(c, name="mlp")(normed), "mlp"), kept


def activated(x: Array, config: TrunkConfig) -> Array:
    """The nonlinearity that the config names, computed in float32."""
    functions = {
        "gelu": lambda x: jax.nn.gelu(x, approximate=False),
        "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
        "silu": jax.nn.silu,
        "relu": jax.nn.relu,
    }
    return functions[config.activation](x.astype(jnp.float32)).astype(x.dtype)


def _dense(config, features, use_bias, name, residual=False):
    """A product of the block; those that add to the stream start smaller.

    Source: Radford et al. 2019, section 2.3: residual weights scaled by 1/sqrt(2L).
    """
    std = config.init_std / (2 * config.num_layers) ** 0.5
    return Dense(
        features,
        use_bias,
        config.dtype,
        std if residual else config.init_std,
        name=name,
    )

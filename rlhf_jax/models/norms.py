"""LayerNorm and RMSNorm, always in float32."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from rlhf_jax.models.config import TrunkConfig


class Norm(nn.Module):
    """The norm that the config names, over the last axis.

    "layer":  (x - mean) / sqrt(var + eps) · scale + bias   (Ba et al. 2016)
    "rms":    x / sqrt(mean(x²) + eps) · scale              (Zhang & Sennrich 2019)

    With `norm_offset` the factor is 1 + scale, and a fresh scale is 0 (Gemma).
    """

    config: TrunkConfig
    kind: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*R D"]) -> Float[Array, "*R D"]:
        config, dtype = self.config, x.dtype
        kind = self.kind or config.norm
        fresh = nn.initializers.zeros if config.norm_offset else nn.initializers.ones
        scale = self.param("scale", fresh, x.shape[-1:]).astype(jnp.float32)
        scale = 1 + scale if config.norm_offset else scale
        x = x.astype(jnp.float32)
        if kind == "layer":
            x = x - x.mean(axis=-1, keepdims=True)
        variance = jnp.square(x).mean(axis=-1, keepdims=True)
        x = x * jax.lax.rsqrt(variance + config.norm_eps)
        x = x * jnp.broadcast_to(scale, x.shape)
        if kind == "layer":
            bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
            x = x + jnp.broadcast_to(bias.astype(jnp.float32), x.shape)
        return x.astype(dtype)

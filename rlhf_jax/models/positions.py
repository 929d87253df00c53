"""Where a token stands: positions from masks, and rotary position embeddings."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.models.config import RopeScaling, TrunkConfig


def token_positions(
    valid: Bool[Array, "B T"],
    segments: Int[Array, "B T"] | None = None,
    common: Bool[Array, "B T"] | None = None,
) -> Int[Array, "B T"]:
    """The index of each token among the valid ones before it, from 0.

    Padding on either side and holes do not count; with `segments` the count restarts
    where the segment changes, and behind the tokens of `common`, which come first, it
    goes on from theirs. Slots without a token carry the position of the token before
    them (0 at the start), which nothing reads.

    >>> token_positions(jnp.array([[False, True, True, False, True]]))
    Array([[0, 0, 1, 1, 2]], dtype=int32)
    >>> token_positions(jnp.ones((1, 5), bool), jnp.array([[-2, -2, 0, 0, 1]]),
    ...                 jnp.array([[True, True, False, False, False]]))
    Array([[0, 1, 2, 3, 2]], dtype=int32)
    """
    count = jnp.cumsum(valid, axis=1, dtype=jnp.int32)
    if segments is not None:
        before = count - valid.astype(jnp.int32)
        starts = jnp.diff(segments, axis=1, prepend=segments[:, :1] - 1) != 0
        base = jax.lax.cummax(jnp.where(starts, before, 0), axis=1)
        count = count - base
    if common is not None:
        shared = (common & valid).sum(axis=1, dtype=jnp.int32)
        count = count + jnp.where(common, 0, shared[:, None])
    return jnp.maximum(count - 1, 0)


def rotary_frequencies(config: TrunkConfig) -> Float[Array, "F"]:
    """Angle per position of each rotating pair: theta^(-2 i / rotary_dim) [radians].

    Source: Su et al. 2021; with `RopeScaling` as Llama 3.1 stretches them.
    """
    width = config.rotary_dim
    powers = jnp.arange(0, width, 2, dtype=jnp.float32) / width
    frequencies = 1.0 / (config.rope_theta**powers)
    if config.rope_scaling is None:
        return frequencies
    return _stretched(frequencies, config.rope_scaling)


def _stretched(frequencies: Float[Array, "F"], scaling: RopeScaling):
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    wavelengths = 2 * math.pi / frequencies
    turns = scaling.original_context / wavelengths
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    keep = jnp.clip((turns - low) / (high - low), 0.0, 1.0)
    return keep * frequencies + (1 - keep) * frequencies / scaling.factor


def rotary_angles(
    positions: Int[Array, "B T"], config: TrunkConfig
) -> tuple[Float[Array, "B T F"], Float[Array, "B T F"]]:
    """(cos, sin) of the angles of each token, once for all layers."""
    frequencies = rotary_frequencies(config)
    angles = positions[..., None].astype(jnp.float32) * frequencies[None, None]
    return jnp.cos(angles), jnp.sin(angles)


def rotated(
    heads: Float[Array, "B T N H"],
    cos: Float[Array, "B T F"],
    sin: Float[Array, "B T F"],
) -> Float[Array, "B T N H"]:
    """Heads turned by their angle; pairs are (i, i + F), the half-split layout.

    Only the first 2F numbers of a head turn; the others pass. In float32.
    """
    half = cos.shape[-1]
    heads = heads.astype(jnp.float32)
    first, second = heads[..., :half], heads[..., half : 2 * half]
    cos, sin = cos[:, :, None], sin[:, :, None]
    parts = [first * cos - second * sin, second * cos + first * sin]
    if heads.shape[-1] > 2 * half:
        parts.append(heads[..., 2 * half :])
    return jnp.concatenate(parts, axis=-1)

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
    continues from the last `common` position. Slots without a token carry the position
    of the token before them (0 at the start), which nothing reads.

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


def rotary_frequencies(config: TrunkConfig, local: bool = False) -> Float[Array, "F"]:
    """Angle per position of each rotating pair: theta^(-2 i / rotary_dim) [radians].

    Source: Su et al. 2021; with `RopeScaling` as Llama 3.1 or YaRN stretches them.

    Args:
      config: of the trunk.
      local: in the layers that have a window, where those have their own base.
    """
    width = config.rotary_dim
    powers = jnp.arange(0, width, 2, dtype=jnp.float32) / width
    theta = config.local_rope_theta if local else config.rope_theta
    frequencies = 1.0 / (theta**powers)
    if config.rope_scaling is None or local:
        return frequencies
    return _stretched(frequencies, config.rope_scaling, theta)


def _stretched(frequencies: Float[Array, "F"], scaling: RopeScaling, theta: float):
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    if scaling.kind == "yarn":
        keep = _kept_by_yarn(len(frequencies), scaling, theta)
        return keep * frequencies + (1 - keep) * frequencies / scaling.factor
    wavelengths = 2 * math.pi / frequencies
    turns = scaling.original_context / wavelengths
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    keep = jnp.clip((turns - low) / (high - low), 0.0, 1.0)
    return keep * frequencies + (1 - keep) * frequencies / scaling.factor


def _kept_by_yarn(pairs: int, scaling: RopeScaling, theta: float) -> Float[Array, "F"]:
    """How much of each frequency is kept: 1 for pairs that turn often, 0 for rare ones.

    Source: Peng et al. 2023, section 3.2, as transformers computes it.
    """

    def place(turns: float) -> float:
        """The pair that turns so often within the original context."""
        ratio = scaling.original_context / (turns * 2 * math.pi)
        return pairs * math.log(ratio) / math.log(theta)

    low, high = (
        place(scaling.high_frequency_factor),
        place(scaling.low_frequency_factor),
    )
    if scaling.whole_pairs:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * pairs - 1)
    width = high - low or 0.001
    return 1 - jnp.clip((jnp.arange(pairs, dtype=jnp.float32) - low) / width, 0.0, 1.0)


def rotary_angles(
    positions: Int[Array, "B T"], config: TrunkConfig, local: bool = False
) -> tuple[Float[Array, "B T F"], Float[Array, "B T F"]]:
    """(cos, sin) of the angles of each token, once for all layers (or `local` ones)."""
    frequencies = rotary_frequencies(config, local)
    angles = positions[..., None].astype(jnp.float32) * frequencies[None, None]
    if config.rope_scaling is None or local:
        return jnp.cos(angles), jnp.sin(angles)
    factor = config.rope_scaling.attention_factor
    return factor * jnp.cos(angles), factor * jnp.sin(angles)


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

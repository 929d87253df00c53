"""The only reduction: masks become weights over the whole batch, then everything adds.

    wᵢ = maskᵢ / Σⱼ maskⱼ        loss = Σᵢ wᵢ lossᵢ

A mean of means is not a mean: averaging the masked means of devices, micro-batches or
rows weighs a token by how many others happen to stand beside it. So `normalize` runs
once, over the global batch; afterwards devices add, micro-batches add, terms add.

A value whose weight is 0 takes no part, whatever it is (NaN and inf included): the sum
and the gradient are exactly those of a batch without it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from rlhf_jax.losses.arguments import float_dtype, same_shape

# openai/lm-human-preferences; below the rounding of any reward of ordinary size.
WHITEN_EPSILON = 1e-8


def normalize(mask: Shaped[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Weights that add to 1 over everything the mask selects.

        wᵢ = maskᵢ / Σⱼ maskⱼ ,   all 0 for an empty mask

    Call it on the global batch: all devices, all micro-batches.

    Args:
      mask: any shape; boolean, or non-negative numbers for unequal weights.

    Returns:
      float32 weights of the same shape.

    >>> normalize(jnp.array([[True, True], [True, False]]))[0, 0].round(4).item()
    0.333...
    """
    mask = jnp.asarray(mask)
    exact = jnp.int32 if mask.dtype == jnp.bool_ else jnp.float32
    total = jnp.sum(mask.astype(exact)).astype(jnp.float32)
    return mask.astype(jnp.float32) / jnp.where(total == 0, 1.0, total)


def weighted_sum(
    values: Shaped[Array, "*shape"], weights: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """The sum of values times weights; where a weight is 0 nothing counts.

        Σᵢ wᵢ vᵢ   over i with wᵢ ≠ 0

    Args:
      values: losses or metrics, in their own unit.
      weights: of the same shape, from `normalize`.

    Returns:
      float32 scalar, in the unit of the values. NaN where a NaN carries weight.

    Raises:
      ValueError: the shapes differ.
      TypeError: the weights are a mask: that sum would be no mean.

    >>> weights = normalize(jnp.array([True, False, True]))
    >>> weighted_sum(jnp.array([1.0, jnp.nan, 4.0]), weights).item()
    2.5
    """
    values, weights = jnp.asarray(values), jnp.asarray(weights)
    same_shape(values=values, weights=weights)
    if not jnp.issubdtype(weights.dtype, jnp.floating):
        raise TypeError(f"weights must come from normalize(mask), got {weights.dtype}")
    dtype = float_dtype(values, weights)
    # The where stands before the product, so that neither 0 · NaN nor its gradient
    # is ever formed.
    values = jnp.where(weights != 0, values.astype(dtype), 0)
    return jnp.sum(values * weights.astype(dtype))


def masked_mean(
    values: Shaped[Array, "*shape"], mask: Shaped[Array, "*shape"]
) -> Float[Array, ""]:
    """The mean of what a mask selects; 0 for an empty mask.

        Σᵢ maskᵢ vᵢ / Σᵢ maskᵢ

    For metrics and for losses of one whole batch. Never average its results.

    Args:
      values: any unit.
      mask: of the same shape.

    Returns:
      float32 scalar, in the unit of the values.

    Raises:
      ValueError: the shapes differ.

    >>> masked_mean(jnp.array([1.0, 2.0, 9.0]), jnp.array([True, True, False])).item()
    1.5
    """
    same_shape(values=values, mask=mask)
    return weighted_sum(values, normalize(mask))


def masked_whiten(
    values: Float[Array, "*shape"],
    mask: Shaped[Array, "*shape"],
    *,
    shift_mean: bool = True,
) -> Float[Array, "*shape"]:
    """Values scaled to unit variance over everything the mask selects.

        (v - μ) / √(σ² + ε)  [+ μ without the shift],   μ, σ² over the mask

    The variance is the biased one (divides by the count), ε = 1e-8. Give it the whole
    batch: whitened per device or per row, it is another algorithm.

    Args:
      values: rewards or advantages.
      mask: of the same shape.
      shift_mean: also move the mean to 0. Advantages: yes. Rewards: no, since their
        sign matters (Ziegler et al. 2019, code; Huang et al. 2023, detail 18).

    Returns:
      Of the same shape, without unit; 0 where the mask is false.

    Raises:
      ValueError: the shapes differ.

    Source: openai/lm-human-preferences; not stated in Ouyang et al. 2022.

    >>> two = jnp.array([True, True, False])
    >>> masked_whiten(jnp.array([1.0, 3.0, 7.0]), two).round(3).tolist()
    [-1.0, 1.0, 0.0]
    >>> masked_whiten(jnp.array([1.0, 3.0, 7.0]), two, shift_mean=False).tolist()
    [1.0, 3.0, 0.0]
    """
    same_shape(values=values, mask=mask)
    selected = jnp.asarray(mask).astype(jnp.bool_)
    values = jnp.asarray(values)
    values = jnp.where(selected, values.astype(float_dtype(values)), 0)
    weights = normalize(mask).astype(values.dtype)
    mean = weighted_sum(values, weights)
    variance = weighted_sum(jnp.square(values - mean), weights)
    whitened = (values - mean) * jax.lax.rsqrt(variance + WHITEN_EPSILON)
    if not shift_mean:
        whitened = whitened + mean
    return jnp.where(selected, whitened, 0)

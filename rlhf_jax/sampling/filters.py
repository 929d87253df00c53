"""From logits to the distribution that a token is drawn from."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlhf_jax.sampling.spec import SamplingSpec


def scaled_logits(
    logits: Float[Array, "B V"], steps: Int[Array, "B"], spec: SamplingSpec
) -> Float[Array, "B V"]:
    """The logits of the sampled distribution: (z - max z) / τ, then the filters.

    Order: end tokens are withheld before `min_new_tokens`, then temperature, then
    top-k, then top-p (the order of transformers). A greedy spec is scaled by 1, so
    that its log-probabilities are the model's own.

    Args:
      logits: the model's logits z of the next token.
      steps: how many tokens of the response each row already has.
      spec: what to apply.

    Returns:
      Float32 logits; -inf where a token cannot be drawn.
    """
    logits = logits.astype(jnp.float32)
    if spec.min_new_tokens and spec.end_tokens:
        logits = without_end_tokens(logits, steps < spec.min_new_tokens, spec)
    if not spec.greedy and spec.temperature != 1:
        # from the largest, which is then exactly 0, however cold it is
        largest = jnp.max(logits, axis=-1, keepdims=True)
        logits = (logits - largest) / spec.temperature
    if 0 < spec.top_k < logits.shape[-1]:
        logits = keep_top_k(logits, spec.top_k)
    if spec.top_p < 1:
        logits = keep_top_p(logits, spec.top_p)
    return logits


def without_end_tokens(
    logits: Float[Array, "B V"], withheld: Array, spec: SamplingSpec
) -> Float[Array, "B V"]:
    """-inf at the end tokens of the rows where `withheld` [B] is true."""
    ids = jnp.arange(logits.shape[-1])
    is_end = jnp.isin(ids, jnp.asarray(spec.end_tokens))
    return jnp.where(withheld[:, None] & is_end[None], -jnp.inf, logits)


def keep_top_k(logits: Float[Array, "B V"], k: int) -> Float[Array, "B V"]:
    """-inf below the k-th largest logit of each row; equals of the k-th stay."""
    smallest = jax.lax.top_k(logits, k)[0][:, -1:]
    return jnp.where(logits < smallest, -jnp.inf, logits)


def keep_top_p(logits: Float[Array, "B V"], p: float) -> Float[Array, "B V"]:
    """-inf outside the nucleus: the fewest largest tokens with Σ probability ≥ p.

    A token stays if the probabilities strictly before it, in falling order, sum to
    less than p; so the largest always stays, and equals of the last one stay too.

    Source: Holtzman et al. 2020, "The curious case of neural text degeneration".
    """
    falling = -jnp.sort(-logits, axis=-1)
    probabilities = jax.nn.softmax(falling, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    kept = jnp.sum(before < p, axis=-1, keepdims=True)
    smallest = jnp.take_along_axis(falling, jnp.maximum(kept, 1) - 1, axis=-1)
    return jnp.where(logits < smallest, -jnp.inf, logits)

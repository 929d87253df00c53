"""Likelihood, entropy and KL from hidden states, without ever holding [B, T, V].

    z = cap(h Wᵀ + b) / τ ,    cap(x) = c · tanh(x / c)

The logits of a batch are its largest array by far: 512 responses of 1,024 tokens over
50,257 words take 105 GB. Here a chunk of tokens is projected, reduced to one number per
token, and forgotten; the reverse pass projects it again. Where one chunk holds all
tokens its logits are stored instead: storing them does not raise peak memory.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlhf_jax.layouts import logits_cut
from rlhf_jax.losses.chunking import Projection, Weights, over_chunks
from rlhf_jax.losses.kl import exact_kl
from rlhf_jax.losses.likelihood import entropy as entropy_of_logits

# Logits per chunk and device, 512 MB of float32: 2,670 tokens at 50,257 words.
CHUNK_LOGITS = 2**27


class TokenStatistics(NamedTuple):
    """What `chunked_logprobs` says about each token, nats, float32."""

    logprobs: Float[Array, "*shape"]
    entropy: Float[Array, "*shape"] | None


def chunked_logprobs(
    hidden: Float[Array, "*shape D"],
    unembedding: Float[Array, "V D"],
    tokens: Int[Array, "*shape"],
    *,
    temperature: float = 1.0,
    soft_cap: float | None = None,
    bias: Float[Array, " V"] | None = None,
    chunk_size: int | None = None,
    with_entropy: bool = False,
) -> TokenStatistics:
    """`token_logprobs` (and `entropy`) of `hidden @ unembedding.T`, chunk by chunk.

        log softmax(z)[y]  and  H(softmax(z))

    Args:
      hidden: final hidden states, float32 or bfloat16.
      unembedding: W, one row per word; computed with in the dtype of `hidden`.
      tokens: y, the tokens these positions predict: already shifted.
      temperature: τ of the sampler, positive; a Python number.
      soft_cap: c of models that bound their logits; None for none.
      bias: b, added to the logits before the cap.
      chunk_size: tokens that a device projects at once; None: as many as make 512 MB
        of logits on it.
      with_entropy: also the entropy of each token's distribution.

    Returns:
      logprobs and entropy (None unless asked for), float32, nats; both of the shape
      of `tokens`. Equal to the plain computation to float32 rounding, in value and
      gradient. Where no weight falls, the gradient is 0 whatever `hidden` holds.
      NaN for an id outside [0, V).

    Raises:
      ValueError: the shapes do not fit, or a setting is not positive.
      TypeError: tokens that are not integers.

    >>> hidden, unembedding = jnp.ones((3, 2)), jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> tokens = jnp.array([0, 1, 0])
    >>> chunked_logprobs(hidden, unembedding, tokens).logprobs.round(4).tolist()
    [-0.693..., -0.693..., -0.693...]
    """
    _check(hidden, unembedding, bias, "")
    if hidden.shape[:-1] != tokens.shape:
        raise ValueError(
            f"hidden has shape {hidden.shape} but tokens has shape {tokens.shape}: "
            "expected [..., D] and [...]"
        )
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise TypeError(f"tokens must be integers, got {tokens.dtype}")
    statistics = _logprobs_and_entropy if with_entropy else _logprobs_only
    results = over_chunks(
        (statistics, _projection(temperature, soft_cap)),
        (hidden,),
        (Weights(unembedding, bias),),
        (tokens,),
        _size_of_chunk(chunk_size, unembedding),
    )
    return TokenStatistics(results[0], results[1] if with_entropy else None)


def chunked_exact_kl(
    hidden: Float[Array, "*shape D"],
    unembedding: Float[Array, "V D"],
    ref_hidden: Float[Array, "*shape D2"],
    ref_unembedding: Float[Array, "V D2"],
    *,
    temperature: float = 1.0,
    soft_cap: float | None = None,
    bias: Float[Array, " V"] | None = None,
    ref_bias: Float[Array, " V"] | None = None,
    chunk_size: int | None = None,
) -> Float[Array, "*shape"]:
    """`exact_kl` of two models' logits, chunk by chunk.

        KL(softmax(z) ‖ softmax(z_ref))

    Args:
      hidden: of the policy.
      unembedding: of the policy.
      ref_hidden: of the reference, at the same tokens.
      ref_unembedding: of the reference, over the same vocabulary.
      temperature: τ of the sampler, positive; a Python number.
      soft_cap: c of models that bound their logits, here both.
      bias: b of the policy.
      ref_bias: b of the reference.
      chunk_size: tokens that a device projects at once; None: as many as make 512 MB
        of logits on it.

    Returns:
      float32, nats, as `exact_kl`; 0 exactly where both models are equal.

    Raises:
      ValueError: the shapes do not fit, or a setting is not positive.

    >>> hidden, unembedding = jnp.ones((3, 2)), jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> chunked_exact_kl(hidden, unembedding, hidden, unembedding).tolist()
    [0.0, 0.0, 0.0]
    """
    _check(hidden, unembedding, bias, "")
    _check(ref_hidden, ref_unembedding, ref_bias, "ref_")
    if hidden.shape[:-1] != ref_hidden.shape[:-1]:
        raise ValueError(
            f"hidden has shape {hidden.shape} but ref_hidden has shape "
            f"{ref_hidden.shape}: all but the width must be equal"
        )
    if len(unembedding) != len(ref_unembedding):
        raise ValueError(
            f"unembedding has shape {unembedding.shape} but ref_unembedding has shape "
            f"{ref_unembedding.shape}: the vocabularies must be one"
        )
    return over_chunks(
        (_kl, _projection(temperature, soft_cap)),
        (hidden, ref_hidden),
        (Weights(unembedding, bias), Weights(ref_unembedding, ref_bias)),
        (),
        _size_of_chunk(chunk_size, unembedding),
    )[0]


class TokenComparison(NamedTuple):
    """Two models at the same tokens; float32 arrays of the shape of `tokens`, nats.

    Attributes:
      logprobs: log-probability of each token under the policy.
      ref_logprobs: under the reference.
      entropy: of the policy's distribution.
      kl: KL(policy ‖ reference) over the whole vocabulary.
    """

    logprobs: Float[Array, "*shape"]
    ref_logprobs: Float[Array, "*shape"]
    entropy: Float[Array, "*shape"]
    kl: Float[Array, "*shape"]


def chunked_comparison(
    hidden: Float[Array, "*shape D"],
    unembedding: Float[Array, "V D"],
    ref_hidden: Float[Array, "*shape D2"],
    ref_unembedding: Float[Array, "V D2"],
    tokens: Int[Array, "*shape"],
    *,
    temperature: float = 1.0,
    soft_cap: float | None = None,
    chunk_size: int | None = None,
) -> TokenComparison:
    """`chunked_logprobs` of two models and `chunked_exact_kl`, projecting each once.

    Args:
      hidden: of the policy.
      unembedding: of the policy.
      ref_hidden: of the reference, at the same tokens.
      ref_unembedding: of the reference, over the same vocabulary.
      tokens: target ids.
      temperature: τ of the sampler, positive; a Python number.
      soft_cap: c of models that bound their logits, here both.
      chunk_size: as for `chunked_exact_kl`.

    Returns:
      logprobs, ref_logprobs, entropy and kl, as the two functions give them.

    Raises:
      ValueError: the shapes do not fit, or a setting is not positive.

    >>> hidden, unembedding = jnp.ones((3, 2)), jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> found = chunked_comparison(
    ...     hidden, unembedding, hidden, unembedding, jnp.array([0, 1, 0])
    ... )
    >>> found.ref_logprobs.round(4).tolist(), found.kl.tolist()
    ([-0.693..., -0.693..., -0.693...], [0.0, 0.0, 0.0])
    """
    _check(hidden, unembedding, None, "")
    _check(ref_hidden, ref_unembedding, None, "ref_")
    if not hidden.shape[:-1] == ref_hidden.shape[:-1] == tokens.shape:
        raise ValueError(
            f"hidden {hidden.shape}, ref_hidden {ref_hidden.shape} and tokens "
            f"{tokens.shape}: all but the width must be equal"
        )
    if len(unembedding) != len(ref_unembedding):
        raise ValueError(
            f"unembedding has shape {unembedding.shape} but ref_unembedding has shape "
            f"{ref_unembedding.shape}: the vocabularies must be one"
        )
    return TokenComparison(
        *over_chunks(
            (_comparison, _projection(temperature, soft_cap)),
            (hidden, ref_hidden),
            (Weights(unembedding, None), Weights(ref_unembedding, None)),
            (tokens,),
            _size_of_chunk(chunk_size, unembedding),
        )
    )


def _size_of_chunk(given: int | None, unembedding: Array) -> int:
    if given is not None:
        return given
    words = len(unembedding)
    return max(1, CHUNK_LOGITS * logits_cut(words) // words)


def _projection(temperature: float, soft_cap: float | None) -> Projection:
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}: expected more than 0")
    if soft_cap is not None and not soft_cap > 0:
        raise ValueError(f"soft_cap is {soft_cap}: expected more than 0, or None")
    return Projection(float(temperature), None if soft_cap is None else float(soft_cap))


def _check(hidden: Array, unembedding: Array, bias: Array | None, prefix: str) -> None:
    if (
        hidden.ndim < 1
        or unembedding.ndim != 2
        or hidden.shape[-1:] != (unembedding.shape[1:])
    ):
        raise ValueError(
            f"{prefix}hidden has shape {hidden.shape} but {prefix}unembedding has "
            f"shape {unembedding.shape}: expected [..., D] and [V, D]"
        )
    if bias is not None and bias.shape != unembedding.shape[:1]:
        raise ValueError(
            f"{prefix}bias has shape {bias.shape} but {prefix}unembedding has shape "
            f"{unembedding.shape}: expected [V] and [V, D]"
        )


# What is kept of the logits of a chunk: float32 [..., V] of each model -> [...].


@jax.custom_vjp
def _log_likelihood(logits: Array, tokens: Array) -> Array:
    """log softmax(logits)[token]; each way reads the logits as seldom as it can."""
    return _read(logits, tokens)[0]


def _read(logits: Array, tokens: Array) -> tuple[Array, tuple]:
    largest = jnp.max(logits, axis=-1, keepdims=True)
    log_z = largest + jnp.log(jnp.sum(jnp.exp(logits - largest), -1, keepdims=True))
    chosen = jnp.take_along_axis(logits, tokens[..., None], axis=-1, mode="clip")
    logprobs = (chosen - largest) - (log_z - largest)
    return logprobs[..., 0], (logits, tokens, log_z)


def _write(kept: tuple, cotangent: Array) -> tuple[Array, None]:
    """c (1[v = token] - softmax(logits)_v)"""
    logits, tokens, log_z = kept
    words = jax.lax.broadcasted_iota(tokens.dtype, logits.shape, logits.ndim - 1)
    hit = (words == tokens[..., None]).astype(logits.dtype)
    return cotangent[..., None] * (hit - jnp.exp(logits - log_z)), None


_log_likelihood.defvjp(_read, _write)


def _logprobs_only(logits: tuple[Array], tokens: Array) -> tuple[Array]:
    (logits,) = logits
    inside = (tokens >= 0) & (tokens < logits.shape[-1])
    return (jnp.where(inside, _log_likelihood(logits, tokens), jnp.nan),)


def _logprobs_and_entropy(logits: tuple[Array], tokens: Array) -> tuple[Array, Array]:
    return (*_logprobs_only(logits, tokens), entropy_of_logits(logits[0]))


def _kl(logits: tuple[Array, Array]) -> tuple[Array]:
    return (exact_kl(*logits),)


def _comparison(logits: tuple[Array, Array], tokens: Array) -> tuple[Array, ...]:
    (ref_logprobs,) = _logprobs_only(logits[1:], tokens)
    logprobs, entropy = _logprobs_and_entropy(logits[:1], tokens)
    return logprobs, ref_logprobs, entropy, *_kl(logits)

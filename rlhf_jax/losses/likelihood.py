"""Likelihood of tokens: what pretraining, SFT and the ptx term are made of.

    log π(y_t | x, y_<t) = z_t[y_t] - log Σᵥ exp z_t[v]

The position t - 1 predicts the token t. That shift by one happens in `next_token_pairs`
and nowhere else.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from rlhf_jax.losses.arguments import guarded, real


def token_logprobs(
    logits: Float[Array, "*shape V"], tokens: Int[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """The logprob of each given token.

        log softmax(z)[y]

    Args:
      logits: of the distribution that each token was drawn from. For tokens sampled
        at a temperature, divide the logits by it first.
      tokens: token ids.

    Returns:
      float32, nats, ≤ 0. NaN for an id outside [0, V): such an id can stand only
      where no weight falls.

    Raises:
      ValueError: the shapes do not fit.
      TypeError: integer logits, or tokens that are not integers.

    Source: Ouyang et al. 2022, the log π of Eq. 2.

    >>> logits = jnp.log(jnp.array([[0.25, 0.75]]))
    >>> jnp.exp(token_logprobs(logits, jnp.array([1]))).item()
    0.75
    """
    (logits,) = real(logits=logits)
    tokens = jnp.asarray(tokens)
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise TypeError(f"tokens must be integers, got {tokens.dtype}")
    if logits.shape[:-1] != tokens.shape or logits.ndim == 0:
        raise ValueError(
            f"logits has shape {logits.shape} but tokens has shape {tokens.shape}: "
            "expected [..., V] and [...]"
        )
    return _token_logprobs(logits, tokens)


@guarded
def _token_logprobs(logits: Array, tokens: Array) -> Array:
    inside = (tokens >= 0) & (tokens < logits.shape[-1])
    index = jnp.where(inside, tokens, 0)[..., None]
    logprobs = jax.nn.log_softmax(logits, axis=-1)
    chosen = jnp.take_along_axis(logprobs, index, axis=-1)[..., 0]
    return jnp.where(inside, chosen, jnp.nan)


def next_token_pairs(
    states: Shaped[Array, "B T *rest"], tokens: Int[Array, "B T"]
) -> tuple[Shaped[Array, "B T-1 *rest"], Int[Array, "B T-1"]]:
    """Each position with the token that it predicts: the only shift by one.

    Args:
      states: logits [B, T, V] or hidden states [B, T, D].
      tokens: what was read at those positions.

    Returns:
      states of positions 0 .. T-2, tokens of positions 1 .. T-1. Entry t-1 belongs
      to token t, so masks and weights of tokens are cut as `[:, 1:]`.

    Raises:
      ValueError: the shapes do not fit.
    """
    if states.ndim < 2 or states.shape[:2] != tokens.shape:
        raise ValueError(
            f"states has shape {states.shape} but tokens has shape {tokens.shape}: "
            "expected [B, T, ...] and [B, T]"
        )
    return states[:, :-1], tokens[:, 1:]


def next_token_logprobs(
    logits: Float[Array, "B T V"], tokens: Int[Array, "B T"]
) -> Float[Array, "B T-1"]:
    """The logprob of each token given the tokens before it.

        log p(y_t | y_<t),   t = 1 .. T-1

    Args:
      logits: of a model that has read `tokens`.
      tokens: token ids.

    Returns:
      float32, nats; entry t-1 is the logprob of token t. Token 0 has none.

    Raises:
      ValueError: the shapes do not fit.

    Source: Ouyang et al. 2022, Eq. 2, the pretraining term.

    >>> logits = jnp.log(jnp.array([[[0.5, 0.5], [0.1, 0.9]]]))
    >>> next_token_logprobs(logits, jnp.array([[1, 0]])).round(4).tolist()
    [[-0.693...]]
    """
    if logits.ndim != 3 or logits.shape[:2] != tokens.shape:
        raise ValueError(
            f"logits has shape {logits.shape} but tokens has shape {tokens.shape}: "
            "expected [B, T, V] and [B, T]"
        )
    return token_logprobs(*next_token_pairs(logits, tokens))


def next_token_loss(
    logits: Float[Array, "B T V"], tokens: Int[Array, "B T"]
) -> Float[Array, "B T-1"]:
    """The loss of pretraining, SFT and the ptx term, per predicted token.

        -log p(y_t | y_<t)

    Args:
      logits: of a model that has read `tokens`.
      tokens: token ids.

    Returns:
      float32, nats, ≥ 0; entry t-1 belongs to token t: weigh it with
      `normalize(mask)[:, 1:]`. A mask that is true at token 0 counts a token that
      nothing predicts.

    Raises:
      ValueError: the shapes do not fit.

    Source: Ouyang et al. 2022, §3.5 (SFT) and Eq. 2, the term with γ.

    >>> next_token_loss(jnp.zeros((1, 2, 4)), jnp.array([[0, 3]])).round(4).tolist()
    [[1.386...]]
    """
    return -next_token_logprobs(logits, tokens)


def entropy(logits: Float[Array, "*shape V"]) -> Float[Array, "*shape"]:
    """How spread each distribution is.

        H(π) = -Σᵥ π(v) log π(v)

    Args:
      logits: -inf marks a token that cannot occur; it adds nothing.

    Returns:
      float32, nats, in [0, log V].

    Raises:
      TypeError: integer logits.

    >>> round(jnp.exp(entropy(jnp.zeros(8))).item(), 3)
    8.0
    """
    (logits,) = real(logits=logits)
    return _entropy(logits)


@guarded
def _entropy(logits: Array) -> Array:
    logprobs = jax.nn.log_softmax(logits, axis=-1)
    # 0 · log 0 = 0, in the gradient too.
    possible = logprobs != -jnp.inf
    logprobs = jnp.where(possible, logprobs, 0)
    probs = jnp.where(possible, jnp.exp(logprobs), 0)
    return -jnp.sum(probs * logprobs, axis=-1)

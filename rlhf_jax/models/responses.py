"""What a model says about a response: logprobs, values and scores, one forward each.

A row is prompt ⊕ response: prompts are left padded, so the last prompt token stands at
P-1 in every row and the response starts at P. The token at P+t is predicted at P+t-1;
the same position holds the value of the state *before* that token.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.losses import (
    chunked_comparison,
    chunked_logprobs,
    terminal_index,
)
from rlhf_jax.losses.chunked import TokenComparison, TokenStatistics

__all__ = [
    "joined",
    "response_comparison",
    "response_hidden",
    "response_scores",
    "response_statistics",
    "response_values",
]


def joined(batch: dict) -> tuple[Array, Bool[Array, "B P+R"]]:
    """(tokens [B,P+R], valid [B,P+R]) of `prompts`, `valid`, `tokens`, `mask`."""
    tokens = jnp.concatenate([batch["prompts"], batch["tokens"]], axis=1)
    valid = jnp.concatenate([batch["valid"], batch["mask"]], axis=1)
    return tokens, valid


def _before_response(batch: dict, per_position: Array) -> Array:
    """Positions P-1 .. P+R-2 of [B, P+R, ...]: those that predict the response."""
    start = batch["prompts"].shape[1] - 1
    return per_position[:, start : start + batch["tokens"].shape[1]]


def response_hidden(model: Any, params: Any, batch: dict) -> Float[Array, "B R D"]:
    """The last hidden state before each response token, in the compute dtype."""
    tokens, valid = joined(batch)
    hidden = model.apply({"params": params}, tokens, valid, method="hidden")
    return _before_response(batch, hidden)


def response_statistics(
    model: Any,
    params: Any,
    batch: dict,
    *,
    temperature: float,
    with_entropy: bool = False,
    hidden: Float[Array, "B R D"] | None = None,
) -> TokenStatistics:
    """log π(y_t | x, y_<t) in nats at the temperature that sampled, and the entropy.

    Args:
      model: a `LanguageModel`.
      params: its params.
      batch: `prompts [B,P]` left padded, `valid [B,P]`, `tokens [B,R]`, `mask [B,R]`.
      temperature: of the sampler; logits are divided by it.
      with_entropy: also the entropy of each token's distribution, in nats.
      hidden: of `response_hidden`, where it has been computed already.

    Returns:
      logprobs and entropy, [B, R] float32 each (entropy None unless asked for).
    """
    if hidden is None:
        hidden = response_hidden(model, params, batch)
    return chunked_logprobs(
        hidden,
        model.unembedding(params),
        batch["tokens"],
        temperature=temperature,
        soft_cap=model.config.logit_soft_cap,
        with_entropy=with_entropy,
    )


def response_comparison(
    model: Any, params: Any, ref_params: Any, batch: dict, *, temperature: float
) -> TokenComparison:
    """Policy and reference at each response token; the vocabulary is projected twice.

    Args:
      model: a `LanguageModel`, of both.
      params: of the policy.
      ref_params: of the reference.
      batch: `prompts`, `valid`, `tokens`, `mask`.
      temperature: of the sampler.

    Returns:
      logprobs, ref_logprobs, entropy and kl, [B, R] float32 each, nats.
    """
    return chunked_comparison(
        response_hidden(model, params, batch),
        model.unembedding(params),
        response_hidden(model, ref_params, batch),
        model.unembedding(ref_params),
        batch["tokens"],
        temperature=temperature,
        soft_cap=model.config.logit_soft_cap,
    )


def response_values(model: Any, params: Any, batch: dict) -> Float[Array, "B R"]:
    """V(x, y_<t): the value of the state before each response token."""
    tokens, valid = joined(batch)
    values = model.apply({"params": params}, tokens, valid)
    return _before_response(batch, values)


def response_scores(model: Any, params: Any, batch: dict) -> Float[Array, " B"]:
    """r(x, y): the reward model's value at the last real token of the response.

    A response without any token is scored at the last token of its prompt.
    """
    tokens, valid = joined(batch)
    values = model.apply({"params": params}, tokens, valid)
    last = batch["prompts"].shape[1] + terminal_index(batch["mask"])
    return jnp.take_along_axis(values, last[:, None], axis=1)[:, 0]

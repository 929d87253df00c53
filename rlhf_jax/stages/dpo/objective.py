"""The losses of a batch of prompts, each with its K ranked responses."""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax import losses
from rlhf_jax.layouts import kept_rows
from rlhf_jax.losses import (
    chunked_logprobs,
    kl_estimate,
    kto_loss,
    normalize,
    ranking_accuracy,
    untied_pairs,
    weighted_sum,
)
from rlhf_jax.models import shared_prefix_hidden
from rlhf_jax.stages.dpo.config import Config

__all__ = ["kl_baseline", "make_loss", "response_logprobs"]


def response_logprobs(
    model: Any, params: Any, batch: dict, *, per_token: bool = False
) -> Float[Array, "B K"]:
    """log π(y_k | x) of every response, in nats, the prompt forwarded once.

    Args:
      model: `LanguageModel`.
      params: its params.
      batch: `prompts [B,P]`, `prompt_valid`, `responses [B,K,R]`, `response_valid`.
      per_token: divided by |y_k|, the response's tokens with its end token.

    Returns:
      float32; 0 where a response is absent.
    """
    valid = batch["response_valid"]
    hidden = shared_prefix_hidden(
        model,
        params,
        batch["prompts"],
        batch["prompt_valid"],
        batch["responses"],
        valid,
    )
    logprobs = chunked_logprobs(
        hidden,
        model.unembedding(params),
        batch["responses"],
        soft_cap=model.config.logit_soft_cap,
    ).logprobs
    total = jnp.where(valid, logprobs, 0.0).sum(axis=-1)
    return total / jnp.maximum(valid.sum(axis=-1), 1) if per_token else total


def make_loss(model: Any, config: Config) -> Callable:
    """The loss that a config names, for `make_update`.

    DPO, IPO, SimPO and ORPO: the mean over the untied pairs of a prompt. In ORPO's
    likelihood a response so counts as often as it wins. KTO: the mean over the
    responses that are desirable (more of the prompt's responses are worse than better)
    or undesirable (fewer); one in the middle says nothing. All: the mean over prompts.

    Args:
      model: `LanguageModel` of the policy, and of the reference.
      config: `loss` and its settings.

    Returns:
      `(params, batch, rng) -> (loss, metrics)`; with a reference also `frozen`, its
      params. The batch has, in addition to `response_logprobs`', `ranks [B,K]`,
      `present [B,K]` and `mask [B]` (there is a pair that is not tied); for KTO
      `kl_baseline`, a number (see the function).
      Metrics: `accuracy`, the share of untied pairs in the right order, and `margin`,
      by how much the better response leads: of β log π/π_ref; SimPO β log π/|y|; ORPO
      log π/|y|, in nats per token; KTO also tells `kl_baseline`.

    Source: InstructGPT section 3.5 for the mean over the pairs of a prompt.
    Differs: the papers have K = 2.
    """
    beta = config.hyperparameters().get("beta", 1.0)

    def referenced(
        params: Any, batch: dict, rng: Array, frozen: Any
    ) -> tuple[Array, dict]:
        del rng
        logprobs = response_logprobs(model, params, batch)
        ref_logprobs = response_logprobs(model, frozen, batch)
        loss, more = of_batch(config, batch, logprobs, ref_logprobs)
        rewards = beta * (logprobs - ref_logprobs)
        return loss, more | _order(rewards, batch)

    def reference_free(params: Any, batch: dict, rng: Array) -> tuple[Array, dict]:
        del rng
        means = response_logprobs(model, params, batch, per_token=True)
        loss, more = of_batch(config, batch, means)
        return loss, more | _order(beta * means, batch)

    of_batch = _kto if config.loss == "kto" else _of_pairs
    return referenced if config.has_reference else reference_free


def _of_pairs(
    config: Config, batch: dict, *logprobs: Float[Array, "B K"]
) -> tuple[Array, dict]:
    """A loss of pairs, of the policy's logprobs and maybe those of the reference."""
    function = getattr(losses, f"{config.loss}_loss")
    pairs = untied_pairs(batch["ranks"], batch["present"])
    # [B, w, l] flat: the chosen and the rejected one of the policy, of the reference
    sides = [
        jnp.broadcast_to(jnp.expand_dims(values, axis), pairs.shape).reshape(-1)
        for values in logprobs
        for axis in (2, 1)
    ]
    values = function(*sides, **config.hyperparameters()).reshape(pairs.shape)
    return weighted_sum(values, _shared(pairs, batch["weights"])), {}


def _kto(
    config: Config,
    batch: dict,
    logprobs: Float[Array, "B K"],
    ref_logprobs: Float[Array, "B K"],
) -> tuple[Array, dict]:
    pairs = untied_pairs(batch["ranks"], batch["present"])
    lead = pairs.sum(axis=2) - pairs.sum(axis=1)  # worse ones less better ones
    z = batch["kl_baseline"]
    function = functools.partial(kto_loss, kl_baseline=z, **config.hyperparameters())
    sides = logprobs, ref_logprobs, lead > 0
    values = function(*(side.reshape(-1) for side in sides)).reshape(lead.shape)
    weights = _shared(lead != 0, batch["weights"])
    return weighted_sum(values, weights), {"kl_baseline": z * batch["weights"].sum()}


def _shared(chosen: Bool[Array, "B ..."], weights: Float[Array, " B"]) -> Array:
    """Each prompt's weight in equal parts on what is chosen of it."""
    count = chosen.sum(axis=tuple(range(1, chosen.ndim)))
    share = weights / jnp.maximum(count, 1)
    return chosen * share.reshape(-1, *(1,) * (chosen.ndim - 1))


def _order(rewards: Float[Array, "B K"], batch: dict) -> dict[str, Array]:
    ranks, present, weights = batch["ranks"], batch["present"], batch["weights"]
    pairs = untied_pairs(ranks, present)
    leads = rewards[:, :, None] - rewards[:, None, :]
    return {
        "accuracy": weighted_sum(ranking_accuracy(rewards, ranks, present), weights),
        "margin": weighted_sum(leads, _shared(pairs, weights)),
    }


def kl_baseline(model: Any) -> Callable[[Any, dict, Any], dict]:
    """KTO's reference point, as `prepare` of `training.session.fit`.

        z = max(0, mean of log π(y'|x)/π_ref(y'|x)),   y' a response to another prompt

    Each prompt of the batch is joined with all responses of the next one (of the last:
    of the first); prompts without an untied pair and absent rows take no part. The
    mean is over the responses of a prompt and then over the prompts of the whole batch,
    before it is cut into micro-batches. It costs policy and reference one more forward
    pass. With a single prompt in the batch there is no other one, and z is 0.

    Args:
      model: `LanguageModel` of policy and reference.

    Returns:
      `(params, batch, frozen) -> batch` with `kl_baseline`, a float32 scalar, nats.

    Source: Ethayarajh et al. 2024, section 4 (the estimate of z_0).
    """

    def prepare(params: Any, batch: dict, frozen: Any) -> dict:
        following = _following(batch["mask"])
        other = {
            name: kept_rows(jnp.take(batch[name], following, axis=0))
            for name in ("responses", "response_valid", "present")
        }
        mismatched = {**batch, **other}
        logprobs = response_logprobs(model, params, mismatched)
        ref_logprobs = response_logprobs(model, frozen, mismatched)
        ratios = kl_estimate(logprobs, ref_logprobs, kind="k1")
        weights = _shared(other["present"], normalize(batch["mask"]))
        mean = weighted_sum(ratios, weights)
        several = batch["mask"].sum() > 1
        return {**batch, "kl_baseline": jnp.where(several, jnp.maximum(mean, 0.0), 0.0)}

    return prepare


def _following(mask: Bool[Array, " B"]) -> Int[Array, " B"]:
    """Of each row where the mask is true the next such row, in a circle.

    >>> _following(jnp.array([True, False, True, True])).tolist()
    [2, 1, 3, 0]
    """
    order = jnp.argsort(~mask, stable=True)  # rows that take part come first
    place = jnp.arange(len(order))
    count = mask.sum()
    after = jnp.where(place < count, (place + 1) % jnp.maximum(count, 1), place)
    return jnp.zeros_like(order).at[order].set(order[after])

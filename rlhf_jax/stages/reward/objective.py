"""The ranking loss of a batch of prompts, each with its K responses."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.losses import (
    ranking_accuracy,
    ranking_loss,
    terminal_index,
    weighted_sum,
)
from rlhf_jax.models import EncoderRewardModel, shared_prefix_values

__all__ = ["make_loss", "ranking_scores"]


def ranking_scores(
    model: Any, params: Any, batch: dict, **apply_options: Any
) -> Float[Array, "B K"]:
    """r_θ(x, y_k) of every response, the prompt forwarded once.

    Args:
      model: `ScalarModel` or `EncoderRewardModel`.
      params: its params.
      batch: `prompts [B,P]`, `prompt_valid`, `responses [B,K,R]`, `response_valid`;
        or, packed (decoder), `tokens [B,T]`, `valid`, `common`, `segments`,
        `ends [B,K]`.
      **apply_options: such as `deterministic` and `rngs`.

    Returns:
      [B, K] float32: the value at the last real token of each response, or what the
      encoder's head gives. Where a response is absent the number means nothing;
      `present` masks it.
    """
    if "ends" in batch:
        values = model.apply(
            {"params": params},
            batch["tokens"],
            batch["valid"],
            segments=batch["segments"],
            common=batch["common"],
            **apply_options,
        )
        return jnp.take_along_axis(values, batch["ends"], axis=1)
    given = [
        batch[name]
        for name in ("prompts", "prompt_valid", "responses", "response_valid")
    ]
    if isinstance(model, EncoderRewardModel):
        return model.apply({"params": params}, *given, **apply_options)
    values = shared_prefix_values(model, params, *given, **apply_options)
    rows, count, length = values.shape
    last = terminal_index(batch["response_valid"].reshape(rows * count, length))
    last = jnp.maximum(last, 0).reshape(rows, count, 1)
    return jnp.take_along_axis(values, last, axis=2)[..., 0]


def make_loss(model: Any, *, head_alone: bool = False) -> Callable:
    """The ranking loss for `make_update`.

    Args:
      model: `ScalarModel` or `EncoderRewardModel`.
      head_alone: `params` are the head's, {"head": ..}; all others come as `frozen`.

    Returns:
      `(params, batch, rng) -> (loss in nats per prompt, metrics)`; the batch has, in
      addition to `ranking_scores`', `ranks [B,K]`, `present [B,K]` and `mask [B]`
      (the prompt has a pair that is not tied).
    """
    dropout = getattr(model.config, "residual_dropout", 0) > 0  # encoders: none

    def loss_fn(params: Any, batch: dict, rng: Array) -> tuple[Array, dict]:
        options = {"deterministic": False, "rngs": {"dropout": rng}} if dropout else {}
        scores = ranking_scores(model, params, batch, **options)
        losses = ranking_loss(scores, batch["ranks"], batch["present"])
        accuracy = ranking_accuracy(scores, batch["ranks"], batch["present"])
        weights = batch["weights"]
        return weighted_sum(losses, weights), {
            "accuracy": weighted_sum(accuracy, weights)
        }

    def on_features(params: Any, batch: dict, rng: Array, frozen: Any) -> tuple:
        return loss_fn({**frozen, **params}, batch, rng)

    return on_features if head_alone else loss_fn

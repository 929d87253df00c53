"""-log p(text): the loss of pretraining, of SFT and of the ptx term.

    loss(φ) = - Σ_b Σ_t w[b,t] log p_φ(x[b,t] | x[b,<t])        Σ w = 1

Which tokens are trained is said by the batch's mask, nothing else: every token of a
window for pretraining, the tokens of the response for SFT.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax import data
from rlhf_jax.data import Text
from rlhf_jax.data.inputs import numeric, one_epoch
from rlhf_jax.evaluation.statistics.scores import Score
from rlhf_jax.losses import chunked_logprobs, next_token_pairs, weighted_sum
from rlhf_jax.parallel import (
    CompiledFunction,
    compile_function,
    mesh_of,
    to_host,
    whole_rows,
)
from rlhf_jax.registry import LoadedModel


def sequence_logprobs(
    model: Any, params: Any, batch: dict, **apply_options: Any
) -> Float[Array, "B T-1"]:
    """log p(x_t | x_<t) for t = 1 .. T-1 in nats, without logits of the whole batch.

    Args:
      model: a `LanguageModel`.
      params: its params.
      batch: `tokens [B,T]`, `valid [B,T]`, and, for packed rows, `segments` [B,T];
        the model counts positions in each segment itself.
      **apply_options: for `model.apply`, such as `deterministic` and `rngs`.

    Returns:
      [B, T-1] float32; entry t-1 is the logprob of token t.
    """
    hidden = model.apply(
        {"params": params},
        batch["tokens"],
        batch["valid"],
        segments=batch.get("segments"),
        method="hidden",
        **apply_options,
    )
    states, targets = next_token_pairs(hidden, batch["tokens"])
    return chunked_logprobs(
        states,
        model.unembedding(params),
        targets,
        soft_cap=model.config.logit_soft_cap,
    ).logprobs


def make_loss(model: Any) -> Callable:
    """The loss function of pretraining and SFT for `make_update`.

    Returns:
      `(params, batch, rng) -> (loss in nats per trained token, metrics)`; `rng` drives
      dropout where the model's config has any.
    """
    dropout = model.config.residual_dropout > 0

    def loss_fn(params: Any, batch: dict, rng: Array) -> tuple[Array, dict]:
        options = {"deterministic": False, "rngs": {"dropout": rng}} if dropout else {}
        logprobs = sequence_logprobs(model, params, batch, **options)
        loss = weighted_sum(-logprobs, batch["weights"][:, 1:])
        return loss, {"trained_tokens": batch["mask"].sum().astype(jnp.float32)}

    return loss_fn


def held_out_batches(
    texts: Iterable[Text], tokenizer: Any, window: int, batch_size: int
) -> list[dict]:
    """Windows of held-out text, each once, always the same."""
    stream = data.text_stream(
        texts, tokenizer, batch_size=batch_size, context_length=window, seed=0
    )
    return list(one_epoch(stream))


def nats_of_windows(
    model: Any, params: Any, batches: Iterable[dict], *, most: int | None = None
) -> Float[np.ndarray, "N 2"]:
    """(-log p in nats, trained tokens) of each window, in the order of their rows.

    Args:
      model: `LanguageModel`, without dropout.
      params: its params.
      batches: of `held_out_batches`.
      most: windows measured; None: all.
    """
    found: list[np.ndarray] = []
    for batch in batches:
        values = to_host(_sequence_logprobs(model)(params, numeric(batch)))
        mask = batch["mask"][:, 1:]
        nats = np.where(mask, -values, 0.0).sum(axis=1)
        rows = np.stack([nats, mask.sum(axis=1)], axis=1)
        found.append(rows[mask.any(axis=1)])
        if most is not None and sum(map(len, found)) >= most:
            break
    return np.concatenate(found)[:most]


def held_out_score(
    model: LoadedModel,
    texts: Iterable[Text],
    window: int,
    *,
    batch_size: int = 16,
    most: int | None = None,
) -> Score:
    """-log p per token of text that nobody trained on; lower is better.

    Args:
      model: a language model; its dropout is off here.
      texts: held out.
      window: tokens of a window.
      batch_size: windows at once, or as many more as its mesh has places for.
      most: windows measured; None: all.
    """
    batch_size = whole_rows(batch_size, mesh_of(model.params))
    batches = held_out_batches(texts, model.tokenizer, window, batch_size)
    language_model = model.with_config(residual_dropout=0.0).model
    return Score(
        "held-out text",
        "nats per token",
        nats_of_windows(language_model, model.params, batches, most=most),
        statistic=per_count,
        higher_is_better=False,
    )


def per_count(totals: Float[np.ndarray, "... 2"]) -> Float[np.ndarray, "..."]:
    """Of (sum, count) pairs the mean; the statistic of a ratio."""
    return totals[..., 0] / np.maximum(totals[..., 1], 1)


@functools.cache
def _sequence_logprobs(model: Any) -> CompiledFunction:
    return compile_function(functools.partial(sequence_logprobs, model))


def make_perplexity(model: Any) -> Callable[[Any, Iterable[dict]], dict[str, float]]:
    """Held-out likelihood: `(params, batches) -> {"nats_per_token", "tokens"}`.

    It runs where the params lie.
    """

    @compile_function
    def sums(params: Any, batch: dict) -> tuple[Array, Array]:
        logprobs = sequence_logprobs(model, params, batch)
        mask = batch["mask"][:, 1:]
        return weighted_sum(-logprobs, mask.astype(jnp.float32)), mask.sum()

    def nats_per_token(params: Any, batches: Iterable[dict]) -> dict[str, float]:
        total, count = 0.0, 0
        for batch in batches:  # one at a time: what is queued holds memory
            nats, tokens = jax.device_get(sums(params, numeric(batch)))
            total, count = total + float(nats), count + int(tokens)
        return {"nats_per_token": total / max(count, 1), "tokens": float(count)}

    return nats_per_token

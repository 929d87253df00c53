"""DPO: the same rankings without a reward model or sampling (Rafailov et al. 2023).

    loss(φ) = -log σ( β [ log π_φ(y_w|x)/π_ref(y_w|x) - log π_φ(y_l|x)/π_ref(y_l|x) ] )

A baseline for PPO, in the shape of the other stages: every untied pair of a prompt
counts, and every prompt weighs the same.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax import data
from rlhf_jax.data import Ranking
from rlhf_jax.data.inputs import as_records, read_rows
from rlhf_jax.fields import DataFile, Length, ModelName
from rlhf_jax.losses import chunked_logprobs, dpo_loss, weighted_sum
from rlhf_jax.models import shared_prefix_hidden
from rlhf_jax.registry import (
    LoadedModel,
    load_model,
    require_language_model,
    save_model,
)
from rlhf_jax.schema import at_least, divides, positive
from rlhf_jax.training import OptimizerConfig
from rlhf_jax.training.session import Run, RunSettings, fit

__all__ = ["Config", "make_loss", "run", "train"]


@dataclasses.dataclass
class Config:
    """Settings of DPO."""

    # model directory of the start, which is also the reference
    init: ModelName = ""
    # files of rankings
    rankings: tuple[DataFile, ...] = ()
    # β; Rafailov et al.: 0.1 (0.5 for TL;DR)
    beta: float = 0.1
    epochs: Length = 1
    # prompts per update; Rafailov et al.: 64
    batch_size: int = 64
    max_prompt: int = 1000
    max_response: int = 1000
    max_k: int = 9
    # Rafailov et al.: RMSprop, 1e-6, linear warm-up over 150 updates
    optimizer: OptimizerConfig = dataclasses.field(
        default_factory=lambda: OptimizerConfig(
            name="rmsprop",
            learning_rate=1e-6,
            schedule="constant",
            warmup_steps=150,
            warmup_from=0.0,
        )
    )
    # Rafailov et al.: 10
    clip_norm: float | None = 10.0
    microbatches: int = 1
    seed: int = 0

    def problems(self) -> Iterator[str]:
        """What cannot work, one line each."""
        yield from positive(self, "beta", "clip_norm")
        yield from at_least(self, 1, "epochs", "batch_size", "microbatches")
        yield from at_least(self, 1, "max_prompt", "max_response")
        yield from at_least(self, 2, "max_k")
        yield from divides(self, "microbatches", "batch_size")
        if not self.init:
            yield "init: the model to start from is needed"
        if not self.rankings:
            yield "rankings: at least one file is needed"


def response_logprobs(model: Any, params: Any, batch: dict) -> Float[Array, "B K"]:
    """log π(y_k | x) of every response, in nats, the prompt forwarded once.

    Args:
      model: `LanguageModel`.
      params: its params.
      batch: as for the reward model.
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
    return jnp.where(valid, logprobs, 0.0).sum(axis=-1)


def make_loss(model: Any, beta: float) -> Callable:
    """DPO over all untied pairs of each prompt, for `make_update`.

    Args:
      model: `LanguageModel` of policy and reference.
      beta: β.

    Returns:
      `(params, batch, rng, frozen) -> (loss, metrics)`; frozen is the reference.
    """

    def loss_fn(
        params: Any, batch: dict, rng: Array, frozen: Any
    ) -> tuple[Array, dict]:
        del rng
        ranks, present = batch["ranks"], batch["present"]
        logprobs = response_logprobs(model, params, batch)
        ref_logprobs = response_logprobs(model, frozen, batch)
        pairs = ranks[:, :, None] < ranks[:, None, :]
        pairs &= present[:, :, None] & present[:, None, :]
        ones = jnp.ones_like(pairs, dtype=jnp.float32)

        def flat(values: Array, axis: int) -> Array:
            return (jnp.expand_dims(values, axis) * ones).reshape(-1)

        losses = dpo_loss(
            flat(logprobs, 2),
            flat(logprobs, 1),
            flat(ref_logprobs, 2),
            flat(ref_logprobs, 1),
            beta=beta,
        ).reshape(pairs.shape)
        count = jnp.maximum(pairs.sum(axis=(1, 2), keepdims=True), 1)
        weights = pairs * batch["weights"][:, None, None] / count
        margin = (logprobs - ref_logprobs)[:, :, None] - (logprobs - ref_logprobs)[
            :, None, :
        ]
        return weighted_sum(losses, weights), {
            "accuracy": weighted_sum((margin > 0).astype(jnp.float32), weights),
            "margin": weighted_sum(beta * margin, weights),
        }

    return loss_fn


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Trains and returns the directory of the model."""
    workdir = pathlib.Path(workdir)
    trained = train(
        load_model(config.init),
        read_rows(config.rankings, Ranking),
        config=config,
        workdir=workdir,
        settings=settings,
    ).result()
    target = workdir / "model"
    meta = {"stage": "dpo", "beta": config.beta}
    save_model(target, trained.model, trained.params, trained.tokenizer, meta)
    return target


def train(
    start: LoadedModel,
    rankings: Iterable[Ranking],
    *,
    config: Config | None = None,
    workdir: str | pathlib.Path | None = None,
    settings: RunSettings | None = None,
) -> Run:
    """DPO on objects: iterate for the metrics, ask for the model.

    Args:
      start: a language model, which is also the reference.
      rankings: records.
      config: the settings; its names of models and files are not looked at.
      workdir: where checkpoints and metrics go; None: nowhere.
      settings: how to run.

    Returns:
      A `Run`: yields the metrics of each update; its `model` is the policy.
    """
    config = config or Config()
    start = require_language_model(start, "dpo.init")
    start = start.with_config(residual_dropout=0.0)
    stream = data.ranking_stream(
        as_records(rankings, Ranking),
        start.tokenizer,
        max_prompt=config.max_prompt,
        max_response=config.max_response,
        max_k=config.max_k,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    rows = fit(
        config,
        workdir,
        settings,
        make_loss(start.model, config.beta),
        start.params,
        stream,
        config.epochs * stream.steps_per_epoch,
        dtype=start.model.config.dtype,
        frozen=start.params,
    )
    return Run(rows, lambda params: dataclasses.replace(start, params=params))

"""How good a reward model is on held-out rankings, and where its scores have zero."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from rlhf_jax.data import Ranking
from rlhf_jax.data.inputs import demonstration_stream, numeric, one_epoch, read_rows
from rlhf_jax.evaluation.reward_models.accuracy import (
    accuracy_by_rank_gap,
    calibration,
    length_correlation,
    pair_accuracy,
    pairs_of,
    score_rankings,
)
from rlhf_jax.experience.scoring import make_text_reward
from rlhf_jax.registry.model_directory import LoadedModel
from rlhf_jax.stages.reward.config import Config

__all__ = ["centre_on_demonstrations", "make_measure", "metrics_of", "ranking_report"]


def make_measure(config: Config, start: LoadedModel) -> Callable[[Any], dict]:
    """`params -> {set name -> measures}`, on the held-out rankings of the config."""
    files = {"valid": config.valid_rankings, "held_out": config.held_out_rankings}
    sets = {
        name: list(read_rows(some, Ranking)) for name, some in files.items() if some
    }

    def measure(params: Any) -> dict:
        model = dataclasses.replace(start, params=params)
        reward = make_text_reward(
            model, max_prompt=config.max_prompt, max_response=config.max_response
        )
        return {name: ranking_report(reward, rows) for name, rows in sets.items()}

    return measure


def ranking_report(reward: Callable, rankings: Sequence[Ranking]) -> dict:
    """Accuracy with its interval, by rank gap, calibration, and what length explains.

    Args:
      reward: `(prompts, responses) -> scores`.
      rankings: held-out rankings.
    """
    scores = score_rankings(reward, rankings)
    pairs = pairs_of(rankings, scores)
    accuracy, reliability = pair_accuracy(pairs), calibration(pairs)
    return {
        "accuracy": accuracy.estimate,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "pairs": accuracy.num_items,
        "loss": reliability.loss,
        "calibration_error": reliability.error,
        "reliability": {
            "predicted": reliability.predicted.tolist(),
            "observed": reliability.observed.tolist(),
            "counts": reliability.counts.tolist(),
        },
        "by_rank_gap": {
            str(gap): interval.estimate
            for gap, interval in accuracy_by_rank_gap(pairs).items()
        },
        "length": length_correlation(rankings, scores),
    }


def metrics_of(report: dict) -> dict[str, float]:
    """The numbers of a report as metrics, `<set>/<measure>`."""
    return {
        f"{name}/{key}": value
        for name, entries in report.items()
        for key, value in entries.items()
        if isinstance(value, float)
    }


def centre_on_demonstrations(
    config: Config, model: LoadedModel
) -> tuple[LoadedModel, float]:
    """Shifts the head's bias so that demonstrations score 0 on average (section 3.5).

    Returns:
      (the model, what was added to the bias).
    """
    if not config.demonstrations:
        return model, 0.0
    stream = demonstration_stream(
        config.demonstrations,
        model.tokenizer,
        max_prompt=config.max_prompt,
        max_response=config.max_response,
        batch_size=64,
        seed=0,
        layout="buckets",
    )
    value = jax.jit(
        lambda params, batch: model.model.apply(
            {"params": params}, batch["tokens"], batch["valid"]
        )
    )
    scores = []
    for batch in one_epoch(stream):
        values = np.asarray(value(model.params, numeric(batch)))
        real = batch["mask"].any(axis=1)
        last = batch["valid"].shape[1] - 1 - np.argmax(batch["valid"][:, ::-1], axis=1)
        scores.append(values[np.arange(len(last)), last][real])
    shift = -float(np.concatenate(scores).mean())
    head = model.params["head"]
    params = {**model.params, "head": {**head, "bias": head["bias"] + shift}}
    return dataclasses.replace(model, params=params), shift

"""How good a reward model is on held-out rankings, and where its scores have zero."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlhf_jax.data import Demonstration, Ranking
from rlhf_jax.data.account import Account
from rlhf_jax.data.encoding import said_before
from rlhf_jax.data.inputs import prompt_rows
from rlhf_jax.evaluation.reward_models.accuracy import (
    accuracy_by_rank_gap,
    calibration,
    length_correlation,
    pair_accuracy,
    pairs_of,
    score_rankings,
)
from rlhf_jax.models import EncoderRewardModel
from rlhf_jax.registry import LoadedModel, as_reward, reward_account
from rlhf_jax.stages.reward.config import Config

__all__ = [
    "centre_on_demonstrations",
    "make_measure",
    "metrics_of",
    "ranking_report",
    "with_lengths",
]


def make_measure(
    config: Config, start: LoadedModel, sets: Mapping[str, Sequence[Ranking]]
) -> Callable[[Any], dict]:
    """`(params, accounts) -> {set name -> measures}`, on held-out rankings by name;
    the accounts gain that of the responses scored."""
    start = with_lengths(config, start)

    def measure(params: Any, accounts: list[Account] | None = None) -> dict:
        reward = as_reward(dataclasses.replace(start, params=params))
        report = {n: ranking_report(reward.score, rows) for n, rows in sets.items()}
        if accounts is not None and sets:
            accounts.append(reward_account(reward))
        return report

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
    config: Config,
    model: LoadedModel,
    demonstrations: Sequence[Demonstration],
    account: Account | None = None,
) -> tuple[LoadedModel, float]:
    """Shifts the head's bias so that demonstrations score 0 on average (section 3.5).

    Args:
      config: its lengths.
      model: the reward model.
      demonstrations: records; empty: nothing is shifted.
      account: books those that are left out or cut.

    Returns:
      (the model, what was added to the bias).
    """
    if not demonstrations:
        return model, 0.0
    prompts = [said_before(row) for row in demonstrations]
    responses = [row.response for row in demonstrations]
    if not isinstance(
        model.model, EncoderRewardModel
    ):  # what is too long is left out, as in training
        rows = prompt_rows(prompts, model.form)
        fits = [len(row) <= config.max_prompt for row in rows]
        prompts = list(itertools.compress(prompts, fits))
        responses = list(itertools.compress(responses, fits))
    reward = as_reward(with_lengths(config, model))
    scores = reward.score(prompts, responses)
    if account is not None:
        long = len(demonstrations) - len(prompts)
        account.drop(f"as too long for max_prompt {config.max_prompt}", long)
        cut = reward.counts["responses cut"]
        account.cut_by_any(f"at max_response {config.max_response}", cut)
    shift = -float(scores.mean())
    head = model.params["head"]
    params = {**model.params, "head": {**head, "bias": head["bias"] + shift}}
    return dataclasses.replace(model, params=params), shift


def with_lengths(config: Config, model: LoadedModel) -> LoadedModel:
    """The model, with what it reads of prompt and response in its meta."""
    lengths = {"max_prompt": config.max_prompt, "max_response": config.max_response}
    return dataclasses.replace(model, meta=model.meta | lengths)

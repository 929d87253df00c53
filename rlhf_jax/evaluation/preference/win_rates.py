"""Win rates: one policy against another by any judge, both orders asked.

The paper's main metric is how often labelers prefer a policy over the 175B SFT model,
with 95 % intervals. A judge here is a function `judge(prompts, first, second) -> [N]`
that gives 1 where it prefers the first, 0 the second, 0.5 for a tie (or a probability
in between); `rlhf_jax.evaluation.preference.judges` makes them from anything.

Judges lean to what they are shown first, so each pair is asked in both orders and the
two verdicts are averaged; prompts, not pairs, are resampled for the interval.

Source: Ouyang et al. 2022, section 3.6; both orders: Lee et al. 2023 (RLAIF).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.statistics.intervals import (
    Interval,
    bootstrap_totals,
    expanded_percentiles,
    rate_interval,
)
from rlhf_jax.evaluation.statistics.scores import Score

Judge = Callable[[Sequence[str], Sequence[str], Sequence[str]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Comparisons:
    """The verdicts on N pairs.

    Attributes:
      outcomes: [N] in [0, 1]: 1 the left one won, 0.5 tie; the mean over both orders.
      consistent: [N] both orders gave the same verdict (true when asked only once).
      first_wins: [N] how often the response shown first won, in [0, 1].
      length_difference: [N] words of the left response minus words of the right one.
      clusters: [N] the prompt of each pair.
    """

    outcomes: Float[np.ndarray, "N"]
    consistent: Bool[np.ndarray, "N"]
    first_wins: Float[np.ndarray, "N"]
    length_difference: Float[np.ndarray, "N"]
    clusters: tuple


def compare(
    judge: Judge,
    prompts: Sequence[str],
    left: Sequence[str],
    right: Sequence[str],
    *,
    both_orders: bool = True,
    clusters: Sequence | None = None,
    length: Callable[[str], float] = lambda text: len(text.split()),
) -> Comparisons:
    """Asks the judge about each pair.

    Args:
      judge: who decides.
      prompts: [N]; a prompt may appear several times.
      left: [N] responses of the policy in question.
      right: [N] responses of the baseline.
      both_orders: ask again with the responses swapped, and average.
      clusters: [N] what is resampled together; the prompt itself when None.
      length: of a response; words by default.

    Raises:
      InputError: lengths differ, nothing to compare, or a verdict outside [0, 1].
    """
    if not (len(prompts) == len(left) == len(right)):
        raise InputError(
            f"{len(prompts)} prompts, {len(left)} and {len(right)} responses: "
            "expected as many of each"
        )
    if not len(prompts):
        raise InputError("there is nothing to compare: no prompts")
    straight = _verdicts(judge, prompts, left, right)
    swapped = 1 - _verdicts(judge, prompts, right, left) if both_orders else straight
    first = (straight + 1 - swapped) / 2 if both_orders else straight
    return Comparisons(
        outcomes=(straight + swapped) / 2,
        consistent=np.isclose(straight, swapped),
        first_wins=first,
        length_difference=np.array(
            [length(a) - length(b) for a, b in zip(left, right, strict=True)], float
        ),
        clusters=tuple(prompts if clusters is None else clusters),
    )


def shown(prompt: Any) -> str:
    """The beginning of a prompt, a text or a record, for messages."""
    return getattr(prompt, "prompt", prompt)[:40]


def _verdicts(judge: Judge, prompts, first, second) -> Float[np.ndarray, "N"]:
    verdicts = np.asarray(judge(prompts, first, second), np.float64)
    if verdicts.shape != (len(prompts),):
        raise InputError(
            f"the judge gave {verdicts.shape} verdicts for {len(prompts)} pairs"
        )
    outside = ~((verdicts >= 0) & (verdicts <= 1))
    if outside.any():
        row = int(np.argmax(outside))
        raise InputError(
            f"the judge's verdict on pair {row} ({shown(prompts[row])!r}) is "
            f"{verdicts[row]}; expected a number from 0 to 1"
        )
    return verdicts


def win_rate(comparisons: Comparisons, **options) -> Interval:
    """How often the left policy wins, a tie counting half; with its interval."""
    return rate_interval(comparisons.outcomes, comparisons.clusters, **options)


def length_controlled_win_rate(
    comparisons: Comparisons, *, num_resamples: int = 1000, seed: int = 0
) -> Interval:
    """The win rate that the left policy would have at equal length.

    Fits P(left wins) = σ(θ + φ·tanh(Δ/s)), Δ the difference of lengths and s its
    standard deviation, and reports σ(θ), the win rate at Δ = 0. Prompts are resampled
    and both numbers fitted anew, all resamples in one Newton iteration.

    Args:
      comparisons: verdicts with lengths.
      num_resamples: bootstrap draws.
      seed: of the draws.

    Source: Dubois et al. 2024 (length-controlled AlpacaEval).
    Differs: one baseline, so no per-instruction difficulty; a ridge of 1e-3 on θ and φ
    keeps the fit finite when every pair is won.
    """
    delta = comparisons.length_difference
    spread = delta.std() or 1.0
    feature = np.tanh(delta / spread)
    _, cluster = np.unique(np.array(comparisons.clusters, object), return_inverse=True)
    count = int(cluster.max()) + 1
    estimate = _logistic_at_zero(
        feature, comparisons.outcomes, np.ones((1, len(delta)))
    )[0]
    sizes = {"num_items": len(delta), "num_clusters": count}
    if count == 1:
        return Interval(float(estimate), -np.inf, np.inf, **sizes)
    draws = bootstrap_totals(np.eye(count), num_resamples=num_resamples, seed=seed)
    fitted = _logistic_at_zero(feature, comparisons.outcomes, draws[:, cluster])
    low, high = expanded_percentiles(fitted, count, 0.95)
    return Interval(float(estimate), float(low), float(high), **sizes)


def _logistic_at_zero(
    feature: Float[np.ndarray, "N"],
    outcomes: Float[np.ndarray, "N"],
    weights: Float[np.ndarray, "R N"],
) -> Float[np.ndarray, "R"]:
    """σ(θ) of R weighted logistic fits by Newton's method."""
    ridge, theta, phi = 1e-3, np.zeros(len(weights)), np.zeros(len(weights))
    for _ in range(30):
        p = 1 / (1 + np.exp(-(theta[:, None] + phi[:, None] * feature)))
        residual, curvature = weights * (outcomes - p), weights * p * (1 - p)
        slope_t = residual.sum(1) - ridge * theta
        slope_p = residual @ feature - ridge * phi
        tt = curvature.sum(1) + ridge
        tp, pp = curvature @ feature, curvature @ feature**2 + ridge
        determinant = tt * pp - tp**2
        step_t = (pp * slope_t - tp * slope_p) / determinant
        step_p = (tt * slope_p - tp * slope_t) / determinant
        longest = np.maximum(1.0, np.maximum(abs(step_t), abs(step_p)))
        theta, phi = theta + step_t / longest, phi + step_p / longest
    return 1 / (1 + np.exp(-theta))


def preference_summary(comparisons: Comparisons, **options) -> dict[str, Interval]:
    """Win rate, its parts, the length-controlled one, and the judge's own habits."""
    clusters, outcomes = comparisons.clusters, comparisons.outcomes
    columns = {
        "win rate": outcomes,
        "wins": outcomes > 0.5,
        "ties": outcomes == 0.5,
        "losses": outcomes < 0.5,
        "both orders agree": comparisons.consistent,
        "first shown preferred": comparisons.first_wins,
        "words more than the baseline": comparisons.length_difference,
    }
    summary = {
        name: rate_interval(np.asarray(values, float), clusters, **options)
        for name, values in columns.items()
    }
    summary["win rate, length-controlled"] = length_controlled_win_rate(comparisons)
    return summary


def preference_score(comparisons: Comparisons, *, condition: str = "") -> Score:
    """The win rate as a row of a table, in percent."""
    return Score(
        "preference",
        "win rate %",
        comparisons.outcomes,
        condition,
        clusters=comparisons.clusters,
        scale=100.0,
    )

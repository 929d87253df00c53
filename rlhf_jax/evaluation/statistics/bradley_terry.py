"""A ranking of many policies from pairwise verdicts.

P(i beats j) = σ(sᵢ - sⱼ). The strengths s are the maximum-likelihood ones, in nats,
with mean 0; a tie is half a win for each side. Elo points are 400 / ln 10 ≈ 173.7 per
nat.

Source: Bradley & Terry 1952; the iteration is Hunter 2004, eq. 3.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.statistics.intervals import (
    Interval,
    bootstrap_totals,
    cluster_sums,
    expanded_percentiles,
)

__all__ = ["ELO_PER_NAT", "bradley_terry", "rank_policies"]

ELO_PER_NAT = 400 / np.log(10)


def bradley_terry(
    wins: Float[np.ndarray, "... M M"],
    *,
    pseudo_wins: float = 0.1,
    num_iterations: int = 500,
) -> Float[np.ndarray, "... M"]:
    """Strengths of M policies from how often each beat each.

    Args:
      wins: [..., M, M]; wins[i, j] = times that i beat j, ties counted 0.5 on both
        sides. Leading axes are fitted independently.
      pseudo_wins: added to both sides of every pair that met, so that a policy that
        never lost has a finite strength; 0 gives the plain maximum likelihood.
      num_iterations: of the minorise-maximise iteration.

    Returns:
      [..., M] strengths in nats, mean 0.

    >>> strengths = bradley_terry(np.array([[0.0, 3.0], [1.0, 0.0]]), pseudo_wins=0)
    >>> round(float(np.exp(strengths[0] - strengths[1])), 6)
    3.0
    """
    met = (wins + np.swapaxes(wins, -1, -2)) > 0
    wins = wins + pseudo_wins * met
    games = wins + np.swapaxes(wins, -1, -2)
    won = wins.sum(-1)
    power = np.ones(won.shape)
    for _ in range(num_iterations):
        pair = power[..., :, None] + power[..., None, :]
        power = won / (games / pair).sum(-1)
        power /= np.exp(np.log(power).mean(-1, keepdims=True))
    return np.log(power)


def rank_policies(
    names: Sequence[str],
    left: Sequence[str],
    right: Sequence[str],
    outcomes: Float[np.ndarray, "N"],
    clusters: Sequence | None = None,
    *,
    num_resamples: int = 500,
    seed: int = 0,
) -> dict[str, Interval]:
    """Elo of each policy, best first, with intervals clustered over prompts.

    Args:
      names: the M policies.
      left: [N] who stood on the left in each comparison.
      right: [N] who stood on the right.
      outcomes: [N] in [0, 1], 1 where the left one won.
      clusters: [N] the prompt of each comparison.

    Raises:
      InputError: a name that is not among `names`, or a policy that met nobody.
    """
    place = {name: i for i, name in enumerate(names)}
    unknown = {*left, *right} - set(place)
    if unknown:
        raise InputError(f"unknown policies in the comparisons: {sorted(unknown)}")
    absent = set(place) - {*left, *right}
    if absent:
        raise InputError(f"no comparison has {sorted(absent)}")
    outcomes = np.asarray(outcomes, np.float64)
    i, j = [place[n] for n in left], [place[n] for n in right]
    rows = np.arange(len(outcomes))
    wins = np.zeros((len(outcomes), len(names), len(names)))
    wins[rows, i, j] = outcomes
    wins[rows, j, i] = 1 - outcomes
    sums = cluster_sums(wins, clusters)
    elo = ELO_PER_NAT * bradley_terry(sums.sum(0))
    totals = bootstrap_totals(sums, num_resamples=num_resamples, seed=seed)
    draws = ELO_PER_NAT * bradley_terry(totals, num_iterations=100)
    low, high = expanded_percentiles(draws, len(sums), 0.95)
    order = np.argsort(-elo)
    return {
        names[m]: Interval(
            float(elo[m]), float(low[m]), float(high[m]), len(outcomes), len(sums)
        )
        for m in order
    }

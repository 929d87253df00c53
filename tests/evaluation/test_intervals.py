"""Intervals cover what they say, clustered data included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.evaluation.statistics.intervals import (
    bootstrap_interval,
    bootstrap_totals,
    cluster_sums,
    expanded_percentiles,
    paired_interval,
    rate_interval,
    wilson_interval,
)

WORLDS = 2000


def coverage(sums, truth, *, statistic=None, seed=0, resamples=400):
    """Share of worlds [W, C, k] whose interval holds `truth`; one pass for all."""
    worlds, count = sums.shape[:2]
    totals = bootstrap_totals(
        np.moveaxis(sums, 0, 1), num_resamples=resamples, seed=seed
    )
    ratio = statistic or (lambda s: s[..., 0] / s[..., 1])
    low, high = expanded_percentiles(ratio(totals), count, 0.95)
    assert low.shape == (worlds,)
    return np.mean((low <= truth) & (truth <= high))


def with_counts(values):
    return np.stack([values, np.ones_like(values)], -1)


@pytest.mark.parametrize("count", [20, 60])
def test_a_bootstrapped_mean_covers_at_95_percent(count):
    rng = np.random.default_rng(1)
    values = rng.normal(0.3, 1.0, (WORLDS, count))
    assert 0.93 <= coverage(with_counts(values), 0.3) <= 0.97


def test_a_bootstrapped_rate_covers_at_95_percent():
    rng = np.random.default_rng(2)
    values = (rng.random((WORLDS, 80)) < 0.7).astype(float)
    assert 0.93 <= coverage(with_counts(values), 0.7) <= 0.97


@pytest.mark.parametrize("count", [20, 50])
def test_clustered_data_of_uneven_sizes_are_covered_at_95_percent(count):
    rng = np.random.default_rng(3)
    centre = rng.normal(0.5, 1.0, (WORLDS, count))
    size = rng.integers(3, 8, (WORLDS, count)).astype(float)
    noise = rng.normal(0, 0.5, (WORLDS, count)) * np.sqrt(size)
    sums = np.stack([centre * size + noise, size], -1)
    assert 0.93 <= coverage(sums, 0.5) <= 0.97


def test_ignoring_the_clusters_would_not_cover():
    rng = np.random.default_rng(4)
    centre = np.repeat(rng.normal(0.5, 1.0, (500, 20, 1)), 5, axis=2)
    values = (centre + rng.normal(0, 0.3, (500, 20, 5))).reshape(500, 100)
    assert coverage(with_counts(values), 0.5, resamples=300) < 0.75


def test_a_win_rate_with_ties_and_prompt_effects_is_covered():
    rng = np.random.default_rng(5)
    skill = rng.beta(4, 3, (WORLDS, 60, 1))  # a prompt's own win probability
    draws = rng.random((WORLDS, 60, 3))
    outcome = np.where(rng.random(draws.shape) < 0.2, 0.5, draws < skill)
    truth = 0.2 * 0.5 + 0.8 * 4 / 7
    sums = np.stack([outcome.sum(-1), np.full((WORLDS, 60), 3.0)], -1)
    assert 0.93 <= coverage(sums, truth) <= 0.97


def test_paired_differences_are_covered_and_narrower():
    rng = np.random.default_rng(6)
    item = rng.normal(0, 1, (WORLDS, 50))
    left = item + rng.normal(0.2, 0.3, item.shape)
    right = item + rng.normal(0, 0.3, item.shape)
    assert 0.93 <= coverage(with_counts(left - right), 0.2) <= 0.97
    paired = paired_interval(left[0], right[0])
    alone = bootstrap_interval(left[0])
    assert paired.high - paired.low < 0.6 * (alone.high - alone.low)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_wilson_covers_at_95_percent_on_average_over_sizes(rate):
    from scipy import stats

    covered = []
    for n in range(20, 120):
        k = np.arange(n + 1)
        ends = [wilson_interval(int(i), n) for i in k]
        inside = [e.low <= rate <= e.high for e in ends]
        covered.append(stats.binom.pmf(k, n, rate) @ np.array(inside))
    assert 0.93 <= np.mean(covered) <= 0.97


def test_the_function_users_call_is_the_one_that_was_simulated():
    rng = np.random.default_rng(7)
    values, names = rng.normal(size=90), np.repeat(np.arange(30), 3)
    interval = bootstrap_interval(values, clusters=names, num_resamples=600, seed=0)
    sums = cluster_sums(with_counts(values), names)
    totals = bootstrap_totals(sums, num_resamples=600, seed=0)
    low, high = expanded_percentiles(totals[:, 0] / totals[:, 1], 30, 0.95)
    assert (interval.low, interval.high) == (low, high)
    assert interval.estimate == pytest.approx(values.mean())
    assert (interval.num_items, interval.num_clusters) == (90, 30)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30), st.floats(0.1, 10))
def test_an_interval_holds_its_estimate_and_scales(values, factor):
    interval = bootstrap_interval(values, num_resamples=200)
    slack = 1e-9 + 0.3 * np.std(values)
    assert interval.low - slack <= interval.estimate <= interval.high + slack
    assert interval.scaled(factor).high == pytest.approx(interval.high * factor)


def test_a_statistic_of_several_sums_is_bootstrapped_as_one():
    values = np.array([[1.0, 2.0], [3.0, 4.0], [2.0, 5.0], [0.5, 3.0]])
    interval = bootstrap_interval(values, lambda s: s[..., 0] / s[..., 1])
    assert interval.estimate == pytest.approx(6.5 / 14)
    assert interval.low < 6.5 / 14 < interval.high


def test_one_cluster_says_nothing_about_the_spread():
    interval = bootstrap_interval(np.array([0.2, 0.4]), clusters=["p", "p"])
    assert interval.low == -np.inf and interval.high == np.inf


@pytest.mark.parametrize("values", [[], [0.1, np.nan], [np.inf, 1.0]])
def test_nothing_and_not_a_number_are_refused(values):
    with pytest.raises(ValueError, match="no items|not a finite"):
        bootstrap_interval(values)


def test_clusters_of_another_length_are_refused():
    with pytest.raises(ValueError, match="2 cluster names for 3 items"):
        bootstrap_interval(np.arange(3.0), clusters=["a", "b"])


def test_a_rate_of_all_alike_is_not_certain():
    assert rate_interval([0.0] * 20).high == wilson_interval(0, 20).high
    clustered = rate_interval([1.0] * 20, ["p", "q"] * 10)
    assert clustered.low == wilson_interval(2, 2).low and clustered.num_items == 20
    assert rate_interval([0.0, 1.0] * 9) == bootstrap_interval([0.0, 1.0] * 9)

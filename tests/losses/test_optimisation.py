"""Best-of-n, ensembles and the KL controller: how hard a reward may be pressed."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax import losses

few = settings(max_examples=10)


@pytest.mark.parametrize(
    ("n", "nats"), [(1, 0.0), (2, 0.1931), (64, 3.1745), (1000, 5.9088), (60_000, 10.0)]
)
def test_the_kl_of_best_of_n_is_log_n_less_n_minus_one_over_n(n, nats):
    np.testing.assert_allclose(losses.best_of_n_kl(n), nats, atol=3e-3)


def test_the_kl_of_best_of_n_is_that_of_the_maximum_s_distribution():
    """By counting: the best of n uniform draws from M ranks, M large."""
    size, n = 200_000, 5
    rank = np.arange(1, size + 1)
    best = (rank / size) ** n - ((rank - 1) / size) ** n
    exact = np.sum(best * np.log(best * size))
    np.testing.assert_allclose(losses.best_of_n_kl(n), exact, rtol=1e-4)


def test_fewer_than_one_sample_is_refused(unchecked):
    with pytest.raises(ValueError, match="n is 0"):
        unchecked.best_of_n_kl(0)
    assert jnp.isnan(losses.best_of_n_kl(jnp.array([0, 2]))).tolist() == [True, False]


@few
@given(st.integers(0, 2**31))
def test_the_estimate_is_the_mean_over_every_choice_of_n(seed):
    proxy, gold = np.random.default_rng(seed).normal(size=(2, 7))
    estimate = losses.best_of_n_estimate(
        jnp.asarray(proxy, jnp.float32), jnp.asarray(gold, jnp.float32)
    )
    expected = [oracles.best_of_n(proxy, gold, n) for n in range(1, 8)]
    np.testing.assert_allclose(estimate, expected, rtol=1e-4, atol=1e-5)


def test_equal_proxies_share_their_gold_whatever_their_order():
    proxy = jnp.array([1.0, 1.0, 0.0, 1.0])
    gold = jnp.array([3.0, 0.0, -1.0, 6.0])
    estimate = losses.best_of_n_estimate(proxy, gold)
    np.testing.assert_allclose(estimate[0], 2.0, rtol=1e-6)
    np.testing.assert_allclose(estimate[1:], 3.0, rtol=1e-6)
    order = jnp.array([3, 2, 0, 1])
    moved = losses.best_of_n_estimate(proxy[order], gold[order])
    np.testing.assert_allclose(moved, estimate, rtol=1e-6)


def test_many_samples_neither_overflow_nor_drift():
    """With gold = proxy = rank the estimate is the expected maximum n (N+1)/(n+1)."""
    size = 3000
    rank = jnp.arange(1, size + 1).astype(jnp.float32)
    n = np.arange(1, size + 1)
    estimate = losses.best_of_n_estimate(rank, rank)
    np.testing.assert_allclose(estimate, n * (size + 1) / (n + 1), rtol=1e-4)


def test_a_nan_among_the_proxies_is_not_hidden():
    proxy = jnp.array([1.0, jnp.nan, 0.0])
    assert jnp.isnan(losses.best_of_n_estimate(proxy, jnp.ones(3))).all()


def test_estimates_of_many_prompts_are_mapped():
    rng = np.random.default_rng(0)
    proxy, gold = jnp.asarray(rng.normal(size=(2, 3, 5)), jnp.float32)
    mapped = jax.vmap(losses.best_of_n_estimate)(proxy, gold)
    np.testing.assert_allclose(mapped[:, 0], gold.mean(axis=1), rtol=1e-5, atol=1e-6)
    best = jnp.take_along_axis(gold, proxy.argmax(axis=1)[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(mapped[:, -1], best, rtol=1e-5)


def test_members_that_agree_make_every_ensemble_the_member():
    scores = jnp.tile(jnp.array([[0.5, -2.0, 7.0]]), (4, 1))
    for combined in (
        losses.ensemble_mean(scores),
        losses.ensemble_min(scores),
        losses.ensemble_uncertainty_weighted(scores, variance_coef=9.0),
    ):
        np.testing.assert_allclose(combined, scores[0], rtol=1e-6)


def test_without_a_coefficient_the_uncertainty_weighs_nothing():
    scores = jnp.array([[1.0, 2.0], [3.0, -1.0]])
    uncertain = losses.ensemble_uncertainty_weighted(scores, variance_coef=0.0)
    np.testing.assert_array_equal(uncertain, losses.ensemble_mean(scores))


def test_one_member_s_nan_is_not_hidden():
    scores = jnp.array([[1.0, jnp.nan], [3.0, -1.0]])
    assert jnp.isnan(losses.ensemble_min(scores)).tolist() == [False, True]


def step(kl, *, kl_coef=0.1, target=6.0, horizon=10_000.0, num_episodes=500):
    return float(
        losses.adaptive_kl_coef(
            kl_coef, kl, target=target, horizon=horizon, num_episodes=num_episodes
        )
    )


@pytest.mark.parametrize(
    ("kl", "factor"),
    [(6.0, 1.0), (6.6, 1.005), (5.4, 0.995), (60.0, 1.01), (0.0, 0.99), (-5.0, 0.99)],
)
def test_the_coefficient_follows_the_error_and_never_by_more_than_a_fifth(kl, factor):
    np.testing.assert_allclose(step(kl), 0.1 * factor, rtol=1e-5)


def test_the_controller_brings_the_kl_to_its_target():
    """On a toy policy whose KL falls with the coefficient: KL = 1 / β."""
    kl_coef = 1.0
    for _ in range(400):
        kl_coef = step(1 / kl_coef, kl_coef=kl_coef, horizon=2000.0)
    np.testing.assert_allclose(1 / kl_coef, 6.0, rtol=0.02)


def test_a_kl_that_is_no_number_is_not_hidden():
    assert np.isnan(step(float("nan")))


def test_a_target_must_be_positive():
    with pytest.raises(ValueError, match="target 0.0"):
        step(1.0, target=0.0)

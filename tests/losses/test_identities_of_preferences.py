"""Identities of the losses on preferences, and of rankings with soft labels.

Plain functions without arguments where `test_mutations` runs them against broken ones.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from identity_arrays import draws, equal

from rlhf_jax import losses

BETA = 0.3
FOUR = (4,)


def of_margin(loss):
    """A loss of pairs as a function of the policy's margin, one number."""

    def one(margin):
        zero = jnp.zeros(1)
        return loss(margin[None], zero, zero, zero)[0]

    return one


def dpo_of_margin(**settings):
    return of_margin(lambda *pair: losses.dpo_loss(*pair, beta=BETA, **settings))


def test_without_noise_both_noisy_dpo_losses_are_dpo():
    pair = draws(FOUR, FOUR, FOUR, FOUR)
    plain = losses.dpo_loss(*pair, beta=BETA)
    for robust in (False, True):
        quiet = losses.dpo_loss(*pair, beta=BETA, label_smoothing=0.0, robust=robust)
        np.testing.assert_array_equal(quiet, plain)
        nearly = losses.dpo_loss(*pair, beta=BETA, label_smoothing=1e-7, robust=robust)
        equal(nearly, plain)


def test_conservative_dpo_rests_at_the_log_odds_of_a_right_label():
    rest = jnp.log(0.9 / 0.1) / BETA
    slope = jax.grad(dpo_of_margin(label_smoothing=0.1))
    equal(slope(rest), 0.0)
    assert slope(rest - 1) < 0 < slope(rest + 1)


def test_the_mean_of_robust_dpo_over_turned_labels_is_dpo_of_true_ones():
    chosen, rejected, ref_chosen, ref_rejected = draws(FOUR, FOUR, FOUR, FOUR)
    noisy = {"beta": BETA, "label_smoothing": 0.2, "robust": True}
    true = losses.dpo_loss(chosen, rejected, ref_chosen, ref_rejected, **noisy)
    turned = losses.dpo_loss(rejected, chosen, ref_rejected, ref_chosen, **noisy)
    plain = losses.dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=BETA)
    equal(0.8 * true + 0.2 * turned, plain)


@pytest.mark.parametrize("share", [-0.1, 0.5, float("nan")])
def test_labels_that_say_nothing_are_refused(share):
    zero = jnp.zeros(1)
    with pytest.raises(ValueError, match="label_smoothing"):
        losses.dpo_loss(zero, zero, zero, zero, beta=BETA, label_smoothing=share)


def test_ipo_rests_at_its_margin_where_dpo_goes_on():
    rest = jnp.float32(1 / (2 * BETA))
    ipo = of_margin(lambda *pair: losses.ipo_loss(*pair, beta=BETA))
    equal(ipo(rest), 0.0)
    equal(jax.grad(ipo)(rest), 0.0)
    assert jax.grad(ipo)(rest + 1) > 0 > jax.grad(dpo_of_margin())(rest + 1)


def kto(log_ratios, desirable, **settings):
    settings = {"beta": BETA, "kl_baseline": 0.5} | settings
    zeros = jnp.zeros_like(log_ratios)
    return losses.kto_loss(log_ratios, zeros, jnp.array(desirable), **settings)


def test_kto_raises_good_responses_and_lowers_bad_ones_most_near_the_baseline():
    log_ratios = jnp.array([0.5, 0.5, 9.0, -1e4, 1e4])
    desirable = [True, False, True, True, False]
    loss = kto(log_ratios, desirable)
    slopes = jax.grad(lambda r: kto(r, desirable).sum())(log_ratios)
    equal(loss[:2], [0.5, 0.5])
    equal(loss[3:], [1.0, 1.0])
    equal(slopes[:2], [-BETA / 4, BETA / 4])
    assert slopes[0] < slopes[2] < 0
    equal(slopes[3:], [0.0, 0.0])


def test_the_baseline_of_kto_is_a_constant():
    loss = lambda z: kto(jnp.ones(2), [True, False], kl_baseline=z)[0]  # noqa: E731
    baseline = jnp.float32(0.5)
    assert loss(baseline) != loss(baseline + 1)
    assert jax.grad(loss)(baseline) == 0.0


def test_simpo_is_the_ranking_loss_of_mean_logprobs_against_a_margin():
    chosen, rejected = draws(FOUR, FOUR)
    simpo = losses.simpo_loss(chosen, rejected, beta=2.0, margin=0.7)
    equal(simpo, losses.pairwise_ranking_loss(2.0 * chosen - 0.7, 2.0 * rejected))


def odds_term(chosen, rejected):
    """The second term of ORPO alone."""
    return losses.orpo_loss(chosen, rejected, odds_weight=1.0) + chosen


def test_the_odds_of_orpo_keep_their_digits_at_both_ends():
    logprobs = np.float32([-1e-6, -1e-3, -0.5, -3.0, -50.0])
    half = jnp.full(5, np.log(0.5), jnp.float32)  # odds 1
    exact = logprobs.astype(np.float64)
    odds = np.exp(exact) / -np.expm1(exact)
    np.testing.assert_allclose(
        odds_term(half, jnp.asarray(logprobs)), np.log1p(odds), rtol=1e-6, atol=1e-6
    )


def test_certain_and_impossible_responses_have_a_loss_and_a_gradient():
    ends = jnp.array([0.0, -1e-30, -1e4])
    half = jnp.full(3, np.log(0.5), jnp.float32)
    for pair in ((ends, half), (half, ends)):
        loss, slopes = jax.value_and_grad(
            lambda *pair: losses.orpo_loss(*pair, odds_weight=0.1).sum(), (0, 1)
        )(*pair)
        assert jnp.isfinite(loss) and jnp.isfinite(jnp.stack(slopes)).all()
    assert jnp.isnan(losses.orpo_loss(half[:1], jnp.array([0.1]), odds_weight=0.1))[0]


def test_orpo_without_its_odds_is_the_chosen_response_s_sft():
    chosen, rejected = (-jnp.abs(x) for x in draws(FOUR, FOUR))
    equal(losses.orpo_loss(chosen, rejected, odds_weight=0.0), -chosen)


def ranked():
    """(scores, ranks, their untied pairs) of 3 prompts with ties and padding."""
    (scores,) = draws((3, 4))
    ranks = jnp.array([[1, 2, 2, 4], [3, 1, 2, 9], [1, 1, 1, 1]], jnp.int32)
    valid = jnp.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]], bool)
    return scores, ranks, valid, losses.untied_pairs(ranks, valid)


def test_certain_labels_give_the_hard_ranking_loss_to_the_bit():
    scores, ranks, valid, pairs = ranked()
    certain = jnp.where(pairs, 1.0, jnp.nan)
    soft, to_soft = jax.vjp(
        lambda s: losses.soft_ranking_loss(s, certain, pairs), scores
    )
    hard, to_hard = jax.vjp(lambda s: losses.ranking_loss(s, ranks, valid), scores)
    np.testing.assert_array_equal(soft, hard)
    np.testing.assert_array_equal(to_soft(jnp.ones(3))[0], to_hard(jnp.ones(3))[0])
    assert soft[2] == 0.0  # no pair


def test_a_pair_marked_in_the_other_order_or_in_both_is_the_same_pair():
    scores, _, _, pairs = ranked()
    (logits,) = draws((3, 4, 4), seed=1)
    preferences = jax.nn.sigmoid(logits - logits.swapaxes(1, 2))  # p and 1 - p
    loss = losses.soft_ranking_loss(scores, preferences, pairs)
    turned = pairs.swapaxes(1, 2)
    equal(losses.soft_ranking_loss(scores, preferences, turned), loss)
    equal(losses.soft_ranking_loss(scores, preferences, pairs | turned), loss)


def test_soft_labels_lead_the_scores_to_their_log_odds():
    pairs = jnp.array([[[False, True], [False, False]]])
    p = jnp.full((1, 2, 2), 0.7)
    loss = lambda s: losses.soft_ranking_loss(s, p, pairs)[0]  # noqa: E731
    rest = jnp.array([[jnp.log(0.7 / 0.3), 0.0]], jnp.float32)
    equal(loss(rest), -(0.7 * np.log(0.7) + 0.3 * np.log(0.3)))
    equal(jax.grad(loss)(rest), jnp.zeros((1, 2)))


def test_labels_that_are_no_probabilities_are_seen_where_they_count():
    scores, _, _, pairs = ranked()
    for wrong in (1.2, -0.1):
        beyond = jnp.full((3, 4, 4), wrong)
        loss = losses.soft_ranking_loss(scores, beyond, pairs)
        assert jnp.isnan(loss).tolist() == [True, True, False]


def test_sure_labels_against_sure_scores_neither_overflow_nor_vanish():
    pairs = jnp.array([[[False, True], [False, False]]] * 2)
    scores = jnp.array([[1e4, 0.0], [-1e4, 0.0]])
    against = losses.soft_ranking_loss(scores, jnp.zeros((2, 2, 2)), pairs)
    equal(against, [1e4, 0.0])

"""Identities of likelihood, KL and rankings: each catches a kind of mistake.

`test_mutations` runs some of these against broken losses and sees them fail, so they
are plain functions without arguments.
"""

import jax
import jax.numpy as jnp
import numpy as np
from identity_arrays import draws, equal

from rlhf_jax import losses

BETA, TEMPERATURE = 0.3, 0.7


def _every_token(logits, ref_logits, kind):
    """One-token estimates at every token of the vocabulary."""
    every = jnp.arange(logits.shape[0], dtype=jnp.int32)
    rows = [jnp.tile(z[None, :], (logits.shape[0], 1)) for z in (logits, ref_logits)]
    ours, theirs = (losses.token_logprobs(row, every) for row in rows)
    return losses.kl_estimate(ours, theirs, kind=kind)


def test_k1_and_k3_are_unbiased_and_k2_and_k3_never_negative():
    logits, ref_logits = draws((7,), (7,))
    probs = jax.nn.softmax(logits)
    exact = losses.exact_kl(logits, ref_logits)
    for kind in ("k1", "k3"):
        equal(jnp.vdot(probs, _every_token(logits, ref_logits, kind)), exact)
    assert _every_token(logits, ref_logits, "k1").min() < 0
    for kind in ("k2", "k3"):
        assert _every_token(logits, ref_logits, kind).min() >= 0
    near = logits + 0.01 * ref_logits
    equal(
        jnp.vdot(jax.nn.softmax(near), _every_token(near, logits, "k2")),
        losses.exact_kl(near, logits),
        1e-5,
    )


def test_as_losses_the_three_estimates_descend_three_different_things():
    logits, ref_logits = draws((7,), (7,))
    probs = jax.nn.softmax(logits)

    def expected_gradient(kind):
        def mean(z):  # the sampling distribution is a constant
            return jnp.vdot(probs, _every_token(z, ref_logits, kind))

        return jax.jit(jax.grad(mean))(logits)

    equal(expected_gradient("k1"), jnp.zeros(7))
    equal(
        expected_gradient("k2"), jax.jit(jax.grad(losses.exact_kl))(logits, ref_logits)
    )
    forward_kl = jax.grad(lambda z: losses.exact_kl(ref_logits, z))
    equal(expected_gradient("k3"), forward_kl(logits))


def test_k3_as_a_term_of_the_loss_has_the_slope_that_grpo_descends():
    rho = np.array([-20.0, -3.0, -0.1, 0.0, 1e-3, 0.5, 30.0])
    ref_logprobs = jnp.full(7, -40.0)
    slopes = jax.grad(
        lambda both: losses.kl_estimate(*both, kind="k3").sum(),
    )((ref_logprobs + jnp.asarray(rho, jnp.float32), ref_logprobs))
    # d/dρ (e^-ρ - 1 + ρ), by the policy and with the other sign by the reference
    np.testing.assert_allclose(slopes[0], -np.expm1(-rho), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(slopes[1], np.expm1(-rho), rtol=1e-5, atol=1e-5)


def test_two_responses_rank_as_one_pair():
    (scores,) = draws((5, 2))
    ranks = jnp.tile(jnp.array([[2, 1]], jnp.int32), (5, 1))
    by_prompt = losses.ranking_loss(scores, ranks, jnp.ones((5, 2), bool))
    by_pair = losses.pairwise_ranking_loss(scores[:, 1], scores[:, 0])
    np.testing.assert_array_equal(by_prompt, by_pair)


def test_the_ranking_loss_is_the_mean_over_its_pairs():
    (scores,) = draws((1, 9))
    ranks = jnp.arange(1, 10, dtype=jnp.int32)[None, :]
    pairs = [(w, ell) for w in range(9) for ell in range(w + 1, 9)]
    chosen, rejected = (scores[0, jnp.array(side)] for side in zip(*pairs, strict=True))
    whole = losses.ranking_loss(scores, ranks, jnp.ones((1, 9), bool))
    equal(whole[0], losses.pairwise_ranking_loss(chosen, rejected).mean())
    assert len(pairs) == 36


def test_the_order_of_responses_and_a_common_bias_change_nothing():
    (scores,) = draws((3, 5))
    ranks = jnp.array([[1, 2, 2, 4, 5], [3, 1, 2, 9, 9], [1, 1, 1, 1, 1]], jnp.int32)
    valid = jnp.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
    loss = losses.ranking_loss(scores, ranks, valid)
    order = jnp.array([4, 2, 0, 1, 3])
    moved = losses.ranking_loss(scores[:, order], ranks[:, order], valid[:, order])
    equal(moved, loss)
    equal(losses.ranking_loss(scores + 3.5, ranks, valid), loss)
    assert loss[2] == 0.0  # all tied: no pair is left


def test_responses_of_mixed_number_share_a_batch_by_padding():
    (scores,) = draws((1, 9))
    ranks = jnp.arange(1, 10, dtype=jnp.int32)[None, :]
    for k in (1, 2, 4, 9):
        valid = jnp.arange(9)[None, :] < k
        padded = losses.ranking_loss(scores, ranks, valid)
        alone = losses.ranking_loss(scores[:, :k], ranks[:, :k], valid[:, :k])
        equal(padded, alone)


def test_accuracy_counts_untied_pairs_and_gives_equal_scores_a_half():
    scores = jnp.array([[2.0, 1.0, 1.0], [0.0, 5.0, 9.0]])
    ranks = jnp.array([[1, 2, 3], [1, 1, 2]], jnp.int32)
    valid = jnp.ones((2, 3), bool)
    accuracy = losses.ranking_accuracy(scores, ranks, valid)
    equal(accuracy, [2.5 / 3, 0.0])


def test_dpo_is_the_ranking_loss_of_the_implicit_reward():
    chosen, rejected, ref_chosen, ref_rejected = draws((4,), (4,), (4,), (4,))
    dpo = losses.dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=BETA)
    rewards = BETA * (chosen - ref_chosen), BETA * (rejected - ref_rejected)
    equal(dpo, losses.pairwise_ranking_loss(*rewards))


def test_the_tails_of_the_log_sigmoid_neither_overflow_nor_vanish():
    far = jnp.array([-1e4, -100.0, 100.0])
    loss, gradient = jax.vmap(
        jax.value_and_grad(
            lambda x: losses.pairwise_ranking_loss(x[None], jnp.zeros(1))[0]
        )
    )(far)
    equal(loss[:2], [1e4, 100.0])
    assert 0 <= loss[2] < 1e-30
    equal(gradient, [-1.0, -1.0, 0.0])


def test_entropy_lies_between_certainty_and_evenness():
    certain = jnp.array([0.0, -jnp.inf, -jnp.inf])
    value, gradient = jax.value_and_grad(losses.entropy)(certain)
    assert value == 0.0 and jnp.isfinite(gradient).all()
    equal(losses.entropy(jnp.zeros(50)), np.log(50.0))


def test_the_exact_kl_of_an_excluded_token_is_zero_one_way_and_infinite_the_other():
    even, certain = jnp.zeros(2), jnp.array([0.0, -jnp.inf])
    equal(losses.exact_kl(certain, even), np.log(2.0))
    assert losses.exact_kl(even, certain) == jnp.inf


def test_position_t_minus_one_predicts_token_t():
    logits = jnp.log(jnp.full((1, 3, 4), 0.01)).at[0, 0, 2].set(5.0)
    logprobs = losses.next_token_logprobs(logits, jnp.array([[0, 2, 1]], jnp.int32))
    assert logprobs.shape == (1, 2)
    assert logprobs[0, 0] > -0.1 > logprobs[0, 1]


def test_a_token_outside_the_vocabulary_is_seen_unless_masked():
    logits = jnp.zeros((1, 3, 4))
    tokens = jnp.array([[-1, 4, 2]], jnp.int32)
    logprobs = losses.token_logprobs(logits, tokens)
    assert jnp.isnan(logprobs[0, :2]).all()
    weights = losses.normalize(jnp.array([[False, False, True]]))
    equal(losses.weighted_sum(logprobs, weights), -np.log(4.0))


def test_a_hessian_can_be_taken_forward_over_reverse():
    logits, ref_logits = draws((4,), (4,))
    hessian = jax.jit(jax.hessian(lambda z: losses.exact_kl(z, ref_logits)))(ref_logits)
    probs = jax.nn.softmax(ref_logits)
    fisher = jnp.diag(probs) - jnp.outer(probs, probs)
    equal(hessian, fisher)


def test_scoring_from_hidden_states_divides_by_the_sampler_s_temperature():
    hidden, unembedding = draws((2, 5, 3), (7, 3))
    tokens = jnp.ones((2, 5), jnp.int32)
    logits = jnp.einsum("btd,vd->btv", hidden, unembedding)
    plain = losses.token_logprobs(logits / TEMPERATURE, tokens)
    chunked = losses.chunked_logprobs(
        hidden, unembedding, tokens, temperature=TEMPERATURE
    )
    equal(chunked.logprobs, plain)
    assert chunked.entropy is None

"""Identities of the mathematics: each must hold, and each catches a kind of mistake.

`test_mutations` runs some of these against broken losses and sees them fail, so they
are plain functions without arguments.
"""

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax import losses

BETA, EPSILON, TEMPERATURE = 0.3, 0.2, 0.7


def draws(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def equal(one, other, tolerance=1e-5):
    np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


PREFIX = jnp.arange(6)[None, :] < jnp.array([6, 4, 1, 0])[:, None]


def test_gae_with_lambda_one_is_the_return_minus_the_value():
    rewards, values = draws((4, 6), (4, 6))
    advantages, returns = losses.generalized_advantages(
        rewards, values, PREFIX, discount=0.9, gae_lambda=1.0
    )
    to_come = losses.discounted_returns(rewards, PREFIX, discount=0.9)
    equal(advantages, jnp.where(PREFIX, to_come - values, 0))
    equal(returns, to_come)


def test_gae_with_lambda_zero_is_the_td_error():
    rewards, values = draws((1, 5), (1, 5))
    advantages, _ = losses.generalized_advantages(
        rewards, values, jnp.ones((1, 5), bool), discount=0.9, gae_lambda=0.0
    )
    following = jnp.concatenate([values[:, 1:], jnp.zeros((1, 1))], axis=1)
    equal(advantages, rewards + 0.9 * following - values)


def test_advantages_are_linear_in_the_reward():
    """A reward cast to an integer on the way would break this."""
    scores, logprobs, values = draws((4,), (4, 6), (4, 6))

    def advantages(scores):
        rewards = losses.shaped_rewards(scores, logprobs, logprobs, PREFIX, kl_coef=1.0)
        zero = jnp.zeros_like(values)
        return losses.generalized_advantages(
            rewards, zero, PREFIX, discount=1.0, gae_lambda=0.95
        )[0]

    scores = scores * 3
    equal(advantages(scores * 0.1), advantages(scores) * 0.1)


def test_a_hole_in_the_mask_is_stepped_over():
    rewards, values = draws((1, 6), (1, 6))
    kept = np.array([0, 2, 3, 5])
    mask = jnp.zeros((1, 6), bool).at[0, kept].set(True)
    options = {"discount": 0.9, "gae_lambda": 0.8}
    holed = losses.generalized_advantages(rewards, values, mask, **options)
    dense = losses.generalized_advantages(
        rewards[:, kept], values[:, kept], jnp.ones((1, 4), bool), **options
    )
    for one, other in zip(holed, dense, strict=True):
        equal(one[:, kept], other)


def test_rewards_of_a_response_add_up_to_the_paper_s_objective():
    scores, logprobs, ref_logprobs = draws((4,), (4, 6), (4, 6))
    rewards = losses.shaped_rewards(
        scores, logprobs, ref_logprobs, PREFIX, kl_coef=BETA
    )
    log_ratio = jnp.where(PREFIX, logprobs - ref_logprobs, 0).sum(axis=1)
    alive = PREFIX.any(axis=1)
    equal(rewards.sum(axis=1), jnp.where(alive, scores - BETA * log_ratio, 0))


def test_without_a_kl_coefficient_only_the_score_is_left_at_the_last_token():
    scores, logprobs, ref_logprobs = draws((4,), (4, 6), (4, 6))
    rewards = losses.shaped_rewards(scores, logprobs, ref_logprobs, PREFIX, kl_coef=0.0)
    expected = np.zeros((4, 6), np.float32)
    expected[[0, 1, 2], [5, 3, 0]] = scores[:3]
    np.testing.assert_array_equal(rewards, expected)


def test_the_terminal_index_is_the_last_true_entry_wherever_it_stands():
    table = {(1, 0, 0): 0, (1, 1, 0): 1, (1, 1, 1): 2, (0, 0, 0): -1, (1, 0, 1): 2}
    index = losses.terminal_index(jnp.array(list(table), bool))
    assert index.dtype == jnp.int32
    assert index.tolist() == list(table.values())


def test_at_ratio_one_the_gradient_is_the_plain_policy_gradient():
    logprobs, advantages = draws((3, 4), (3, 4))
    gradient = jax.grad(
        lambda new: losses.clipped_policy_loss(
            new, logprobs, advantages, clip_range=EPSILON
        ).sum()
    )(logprobs)
    equal(gradient, -advantages)


def test_a_ratio_beyond_the_range_stops_only_what_profits_from_it():
    logprobs = jnp.log(jnp.array([1.5, 1.5, 0.5, 0.5]))
    advantages = jnp.array([1.0, -1.0, 1.0, -1.0])
    gradient = jax.grad(
        lambda new: losses.clipped_policy_loss(
            new, jnp.zeros(4), advantages, clip_range=EPSILON
        ).sum()
    )(logprobs)
    equal(gradient, [0.0, 1.5, -0.5, 0.0])


def test_an_overflowing_ratio_that_is_clipped_leaves_the_gradient_finite():
    far = jnp.array([200.0])
    gradient = jax.grad(
        lambda new: losses.clipped_policy_loss(
            new, jnp.zeros(1), jnp.ones(1), clip_range=EPSILON
        ).sum()
    )(far)
    assert gradient.tolist() == [0.0]


def test_an_infinite_range_clips_nothing():
    values, old, returns = draws((5,), (5,), (5,))
    loss = losses.clipped_value_loss(values, old, returns, clip_range=jnp.inf)
    equal(loss, (values - returns) ** 2 / 2)
    loss = losses.clipped_policy_loss(values, old, returns, clip_range=jnp.inf)
    equal(loss, -jnp.exp(values - old) * returns)


def test_policy_equal_to_reference_has_exactly_no_kl_and_ratio_one():
    (logits,) = draws((3, 4, 7))
    tokens = jnp.zeros((3, 4), jnp.int32)
    logprobs = losses.token_logprobs(logits / TEMPERATURE, tokens)
    for kind in ("k1", "k2", "k3"):
        assert not losses.kl_estimate(logprobs, logprobs, kind=kind).any()
    assert not losses.exact_kl(logits, logits).any()
    ones = jnp.ones_like(logprobs)
    loss = losses.clipped_policy_loss(logprobs, logprobs, ones, clip_range=EPSILON)
    np.testing.assert_array_equal(loss, -ones)


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


def test_ppo_on_shaped_rewards_climbs_the_paper_s_objective():
    """The expected PPO gradient of a one-token bandit is that of Eq. 2.

    Both signs and the temperature count: turn the reward, the KL or both, or score at
    another temperature, and the directions part.
    """
    logits, ref_logits, scores = draws((7,), (7,), (7,))
    every = jnp.arange(7, dtype=jnp.int32)[:, None]
    mask = jnp.ones((7, 1), bool)

    def logprobs_of(z):
        return losses.token_logprobs(
            jnp.tile(z[None, None, :] / TEMPERATURE, (7, 1, 1)), every
        )

    def objective(z):
        logs = jax.nn.log_softmax(z / TEMPERATURE)
        ref_logs = jax.nn.log_softmax(ref_logits / TEMPERATURE)
        return jnp.sum(jnp.exp(logs) * (scores - BETA * (logs - ref_logs)))

    old = logprobs_of(logits)
    rewards = losses.shaped_rewards(
        scores, old, logprobs_of(ref_logits), mask, kl_coef=BETA
    )
    advantages, _ = losses.generalized_advantages(
        rewards, jnp.zeros((7, 1)), mask, discount=1.0, gae_lambda=0.95
    )

    def loss(z):
        per_token = losses.clipped_policy_loss(
            logprobs_of(z), old, advantages, clip_range=EPSILON
        )
        return losses.weighted_sum(per_token, jnp.exp(old))

    equal(-jax.jit(jax.grad(loss))(logits), jax.jit(jax.grad(objective))(logits))


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

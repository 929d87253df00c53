"""Identities of rewards, advantages and PPO's losses: each catches a kind of mistake.

`test_mutations` runs some of these against broken losses and sees them fail, so they
are plain functions without arguments.
"""

import jax
import jax.numpy as jnp
import numpy as np
from identity_arrays import draws, equal

from rlhf_jax import losses

BETA, EPSILON, TEMPERATURE = 0.3, 0.2, 0.7
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

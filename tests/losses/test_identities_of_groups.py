"""Identities of advantages that come from other responses of the same prompt.

Plain functions without arguments where `test_mutations` runs them against broken ones.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from identity_arrays import draws, equal

from rlhf_jax import losses

ALL = jnp.ones((3, 4), bool)


def unscaled(scores, valid):
    return losses.group_advantages(scores, valid, scale=False)


def test_leaving_one_out_is_the_true_policy_gradient():
    """By counting: every group of three responses that a policy over four can draw."""
    logits, rewards = draws((4,), (4,))
    groups = jnp.array(list(itertools.product(range(4), repeat=3)), jnp.int32)
    valid = jnp.ones(groups.shape, bool)

    def expected_surrogate(advantages_of):
        advantages = advantages_of(rewards[groups], valid)

        def surrogate(z):
            logprobs = jax.nn.log_softmax(z)[groups]
            chances = jax.lax.stop_gradient(jnp.exp(logprobs.sum(axis=1)))
            return jnp.vdot(chances, (advantages * logprobs).mean(axis=1))

        return jax.grad(surrogate)(logits)

    truth = jax.grad(lambda z: jnp.vdot(jax.nn.softmax(z), rewards))(logits)
    equal(expected_surrogate(losses.leave_one_out_advantages), truth)
    equal(expected_surrogate(unscaled), truth * (2 / 3))


def test_advantages_of_a_prompt_add_to_zero_and_ignore_a_common_bonus():
    (scores,) = draws((3, 4))
    valid = ALL.at[1, 2].set(False)
    for advantages_of in (
        losses.leave_one_out_advantages,
        losses.group_advantages,
        unscaled,
    ):
        advantages = advantages_of(scores, valid)
        equal(advantages.sum(axis=1), jnp.zeros(3))
        equal(advantages_of(scores + 100.0, valid), advantages, 1e-4)


def test_divided_by_the_deviation_the_unit_of_the_scores_is_gone():
    (scores,) = draws((3, 4))
    advantages = losses.group_advantages(scores, ALL, epsilon=0.0)
    equal(losses.group_advantages(scores * 50.0, ALL, epsilon=0.0), advantages)
    equal(advantages.std(axis=1, ddof=1), jnp.ones(3))
    equal(unscaled(scores * 50.0, ALL), unscaled(scores, ALL) * 50.0, 1e-4)


def test_a_group_without_its_invalid_responses_is_the_same_group():
    (scores,) = draws((3, 4))
    broken = scores.at[:, 1].set(jnp.nan)
    valid = ALL.at[:, 1].set(False)
    kept = jnp.array([0, 2, 3])
    for advantages_of in (
        losses.leave_one_out_advantages,
        losses.group_advantages,
        unscaled,
    ):
        padded = advantages_of(broken, valid)
        np.testing.assert_array_equal(padded[:, 1], 0.0)
        equal(padded[:, kept], advantages_of(scores[:, kept], ALL[:, kept]))


def test_without_another_score_or_a_difference_the_advantage_is_exactly_zero():
    alone = jnp.array([[3.0, jnp.nan, jnp.nan]])
    one = jnp.array([[True, False, False]])
    alike = jnp.array([[0.1, 0.1, 0.1], [1e6 + 0.5, 1e6 + 0.5, 1e6 + 0.5]])
    every = jnp.ones((2, 3), bool)
    for advantages_of in (
        losses.leave_one_out_advantages,
        losses.group_advantages,
        unscaled,
    ):
        np.testing.assert_array_equal(advantages_of(alone, one), 0.0)
        np.testing.assert_array_equal(advantages_of(alone, one & False), 0.0)
        np.testing.assert_array_equal(advantages_of(alike, every), 0.0)
        gradient = jax.grad(lambda s, of=advantages_of: of(s, every).sum())(alike)
        assert jnp.isfinite(gradient).all()


def test_a_valid_nan_reaches_its_own_prompt_and_no_other():
    (scores,) = draws((3, 4))
    broken = scores.at[1, 0].set(jnp.nan)
    for advantages_of in (losses.leave_one_out_advantages, losses.group_advantages):
        lost = jnp.isnan(advantages_of(broken, ALL)).all(axis=1)
        assert lost.tolist() == [False, True, False]


def test_groups_of_no_response_are_refused(unchecked):
    for function in (unchecked.group_advantages, unchecked.leave_one_out_advantages):
        with pytest.raises(ValueError, match=r"\(2, 0\): expected \[P, G\]"):
            function(jnp.zeros((2, 0)), jnp.zeros((2, 0), bool))

"""Break a loss the way it has been broken elsewhere, and see the suite notice.

Each mutant replaces one function; the named check must then fail. Without these a
suite that checks nothing would pass too.
"""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest
import test_contract
import test_identities
import test_identities_of_groups
import test_identities_of_ppo
import test_identities_of_preferences
from loss_row import compiled
from table import ROWS

import rlhf_jax.losses.advantages
from rlhf_jax import losses


def changing(name, edit):
    """A mutation: `edit` rewrites the arguments, by name, of every call."""

    def mutate(original):
        signature = inspect.signature(original)

        def mutant(*args, **settings):
            bound = signature.bind(*args, **settings)
            edit(bound.arguments)
            return original(*bound.args, **bound.kwargs)

        return mutant

    mutate.__name__ = name
    return mutate


def scaled(**factors):
    def edit(arguments):
        for name, factor in factors.items():
            arguments[name] = arguments[name] * factor

    return edit


def fixed(**values):
    return lambda arguments: arguments.update(values)


def swap(arguments):
    one, other = list(arguments)[:2]
    arguments[one], arguments[other] = arguments[other], arguments[one]


def cut_to_integers(arguments):
    arguments["scores"] = arguments["scores"].astype(jnp.int32).astype(jnp.float32)


def break_ties(arguments):
    # Later responses lose against earlier ones of the same rank.
    ranks = arguments["ranks"]
    order = jnp.arange(ranks.shape[1], dtype=ranks.dtype)
    arguments["ranks"] = ranks * 100 + order[None, :]


turned_kl = changing("turned_kl", scaled(kl_coef=-1.0))
turned_reward = changing("turned_reward", scaled(scores=-1.0))
turned_both = changing("turned_both", scaled(scores=-1.0, kl_coef=-1.0))
integer_rewards = changing("integer_rewards", cut_to_integers)
another_temperature = changing("another_temperature", scaled(logits=1 / 0.9))
temperature_forgotten = changing("temperature_forgotten", fixed(temperature=1.0))
swapped = changing("swapped", swap)
ties_as_losses = changing("ties_as_losses", break_ties)
without_clipping = changing("without_clipping", fixed(clip_range=jnp.inf))
undivided = changing("undivided", fixed(scale=False))
not_robust = changing("not_robust", fixed(robust=False))
without_margin = changing("without_margin", fixed(margin=0.0))
without_baseline = changing("without_baseline", fixed(kl_baseline=0.0))
sums_for_means = changing("sums_for_means", scaled(chosen_mean_logprobs=7.0))
without_lambda = changing("without_lambda", fixed(gae_lambda=1.0))


def one_token_late(original):
    return lambda mask: jnp.minimum(original(mask) + 1, mask.shape[1] - 1)


def own_score_in_the_baseline(original):
    return lambda scores, valid: losses.group_advantages(scores, valid, scale=False)


def judged_good(original):
    def mutant(logprobs, ref_logprobs, desirable, **settings):
        return original(logprobs, ref_logprobs, desirable | True, **settings)

    return mutant


def without_shift(original):
    def mutant(logits, tokens):
        return losses.token_logprobs(logits[:, 1:], tokens[:, 1:])

    return mutant


def by_hand(row):
    return lambda: test_contract.test_the_hand_worked_example_comes_out(ROWS[row])


def by_loop(row):
    test = test_contract.test_a_loss_equals_a_plain_float64_loop
    return lambda: test.hypothesis.inner_test(ROWS[row], (8, 3), 0, 1.0)


identity, of_ppo = test_identities, test_identities_of_ppo
of_groups, of_preferences = test_identities_of_groups, test_identities_of_preferences
true_gradient = of_groups.test_leaving_one_out_is_the_true_policy_gradient
objective = of_ppo.test_ppo_on_shaped_rewards_climbs_the_paper_s_objective
only_score = (
    of_ppo.test_without_a_kl_coefficient_only_the_score_is_left_at_the_last_token
)
MUTANTS = [
    ("shaped_rewards", turned_kl, [objective, by_hand("shaped_rewards")]),
    ("shaped_rewards", turned_reward, [objective, only_score]),
    ("shaped_rewards", turned_both, [objective, by_loop("shaped_rewards")]),
    (
        "shaped_rewards",
        integer_rewards,
        [
            objective,
            by_hand("shaped_rewards"),
            of_ppo.test_advantages_are_linear_in_the_reward,
        ],
    ),
    ("terminal_index", one_token_late, [by_hand("shaped_rewards"), only_score]),
    ("token_logprobs", another_temperature, [objective, by_loop("token_logprobs")]),
    (
        "chunked_logprobs",
        temperature_forgotten,
        [
            identity.test_scoring_from_hidden_states_divides_by_the_sampler_s_temperature,
            by_hand("chunked_logprobs"),
        ],
    ),
    (
        "kl_estimate",
        swapped,
        [
            identity.test_k1_and_k3_are_unbiased_and_k2_and_k3_never_negative,
            by_hand("kl_estimate_k1"),
        ],
    ),
    ("exact_kl", swapped, [by_loop("exact_kl")]),
    ("pairwise_ranking_loss", swapped, [identity.test_two_responses_rank_as_one_pair]),
    (
        "next_token_logprobs",
        without_shift,
        [
            identity.test_position_t_minus_one_predicts_token_t,
            by_loop("next_token_logprobs"),
        ],
    ),
    ("ranking_loss", ties_as_losses, [by_hand("ranking_loss")]),
    (
        "clipped_policy_loss",
        without_clipping,
        [
            of_ppo.test_a_ratio_beyond_the_range_stops_only_what_profits_from_it,
            by_hand("clipped_policy_loss"),
        ],
    ),
    (
        "generalized_advantages",
        without_lambda,
        [
            of_ppo.test_gae_with_lambda_zero_is_the_td_error,
            by_hand("generalized_advantages"),
        ],
    ),
    (
        "leave_one_out_advantages",
        own_score_in_the_baseline,
        [true_gradient, by_hand("leave_one_out_advantages")],
    ),
    (
        "group_advantages",
        undivided,
        [
            of_groups.test_divided_by_the_deviation_the_unit_of_the_scores_is_gone,
            by_hand("group_advantages"),
        ],
    ),
    (
        "dpo_loss",
        not_robust,
        [
            of_preferences.test_the_mean_of_robust_dpo_over_turned_labels_is_dpo_of_true_ones,
            by_hand("dpo_loss_robust"),
        ],
    ),
    ("ipo_loss", swapped, [by_hand("ipo_loss")]),
    (
        "kto_loss",
        judged_good,
        [
            of_preferences.test_kto_raises_good_responses_and_lowers_bad_ones_most_near_the_baseline,
            by_hand("kto_loss"),
        ],
    ),
    ("kto_loss", without_baseline, [by_loop("kto_loss")]),
    ("simpo_loss", without_margin, [by_hand("simpo_loss")]),
    ("orpo_loss", swapped, [by_hand("orpo_loss")]),
    ("orpo_loss", sums_for_means, [by_loop("orpo_loss")]),
]
CASES = [
    pytest.param(name, mutate, check, id=f"{mutate.__name__}-{name}-{index}")
    for name, mutate, checks in MUTANTS
    for index, check in enumerate(checks)
]


@pytest.fixture(autouse=True)
def fresh_programs():
    """A program compiled before a mutation would hide it."""
    compiled.cache_clear()
    yield
    compiled.cache_clear()


@pytest.mark.parametrize(("name", "mutate", "check"), CASES)
def test_the_check_passes_and_then_sees_the_mutant(name, mutate, check, monkeypatch):
    check()
    compiled.cache_clear()
    module = rlhf_jax.losses.advantages if name == "terminal_index" else losses
    monkeypatch.setattr(module, name, mutate(getattr(module, name)))
    with pytest.raises(AssertionError):
        check()


def test_a_mean_that_counts_padding_is_seen(monkeypatch):
    values, mask = jnp.array([1.0, 2.0, 9.0]), jnp.array([True, True, False])
    weights = losses.normalize(mask)
    np.testing.assert_allclose(losses.weighted_sum(values, weights), 1.5)
    monkeypatch.setattr(losses, "weighted_sum", lambda values, weights: values.mean())
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(losses.weighted_sum(values, weights), 1.5)

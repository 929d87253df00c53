import dataclasses

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from rlhf_jax.data.records import FLAG_NAMES, Prompt
from rlhf_jax.feedback import pairwise_agreement
from rlhf_jax.simulation import held_out_labelers, label, training_labelers, utility
from rlhf_jax.simulation.candidates import candidates, ended
from rlhf_jax.simulation.dice import Dice
from rlhf_jax.simulation.facts import make_world
from rlhf_jax.simulation.flags import true_flags
from rlhf_jax.simulation.labelers import Labeler, sycophancy
from rlhf_jax.simulation.prompts import make_prompt, make_user
from rlhf_jax.simulation.utility import GOLD_WEIGHTS

GOLD = Labeler("gold", dict(GOLD_WEIGHTS), noise=0.0, tie_threshold=0.0)


def pair_signs(ranks):
    """For each pair i < j: 1 where i is better, -1 where j is, 0 for a tie."""
    return [
        (ranks[j] > ranks[i]) - (ranks[j] < ranks[i])
        for i in range(len(ranks))
        for j in range(i + 1, len(ranks))
    ]


def clustered_interval(labelers, rows, samples=400):
    """A 95 % interval of the agreement, by bootstrap over prompts."""
    rng = np.random.default_rng(0)
    same, compared = [], []
    for prompt, responses in rows:
        signs = [pair_signs(lab.rank(prompt, responses)) for lab in labelers]
        products = [
            a * b
            for i, first in enumerate(signs)
            for second in signs[i + 1 :]
            for a, b in zip(first, second, strict=True)
        ]
        same.append(sum(p > 0 for p in products))
        compared.append(sum(p != 0 for p in products))
    picks = rng.integers(len(rows), size=(samples, len(rows)))
    shares = np.array(same)[picks].sum(1) / np.array(compared)[picks].sum(1)
    return np.quantile(shares, [0.025, 0.975])


@pytest.mark.parametrize(
    ("group", "target"), [(training_labelers, 0.726), (held_out_labelers, 0.773)]
)
def test_labelers_agree_as_often_as_in_the_paper(group, target, candidate_rows):
    low, high = clustered_interval(group(0), candidate_rows)
    assert low <= target <= high
    rankings = (label(*row, who) for row in candidate_rows for who in group(0))
    assert abs(pairwise_agreement(rankings)["agreement"] - target) < 0.02


@pytest.mark.parametrize("group", [training_labelers, held_out_labelers])
def test_a_tenth_to_a_quarter_of_the_pairs_are_tied(group, candidate_rows):
    signs = [s for p, rs in candidate_rows for who in group(0)
             for s in pair_signs(who.rank(p, rs))]  # fmt: skip
    assert 0.10 < signs.count(0) / len(signs) < 0.25


def test_without_noise_and_biases_the_ranks_are_those_of_the_utility(candidate_rows):
    for prompt, responses in candidate_rows[:40]:
        values = [utility(prompt, text).total for text in responses]
        ranks = GOLD.rank(prompt, responses)
        for i in range(len(values)):
            for j in range(len(values)):
                if values[i] > values[j] + 1e-9:
                    assert ranks[i] < ranks[j]


def test_asked_again_a_person_says_the_same(candidate_rows):
    for labeler in training_labelers(0)[:3]:
        prompt, responses = candidate_rows[0]
        again = dataclasses.replace(labeler)
        assert labeler.rank(prompt, responses) == again.rank(prompt, responses)
        assert labeler.likert(prompt, responses) == again.likert(prompt, responses)
        assert labeler.flags(prompt, responses) == again.flags(prompt, responses)


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.randoms())
def test_without_a_position_bias_the_order_shown_changes_nothing(row, random):

    dice = Dice("order", row)
    prompt = make_prompt(make_world(0), make_user(0, row), dice, f"p{row}")
    responses = [c.text for c in candidates(prompt, dice, 6)]
    labeler = dataclasses.replace(training_labelers(0)[0], first_bias=0.0)
    order = random.sample(range(len(responses)), len(responses))
    ranks = labeler.rank(prompt, responses)
    shown = labeler.rank(prompt, [responses[k] for k in order])
    assert shown == [ranks[k] for k in order]


def test_equal_texts_always_tie(candidate_rows):
    prompt, responses = candidate_rows[1]
    for labeler in [*training_labelers(0), *held_out_labelers(0)]:
        ranks = labeler.rank(prompt, [responses[0], responses[1], responses[0]])
        assert ranks[0] == ranks[2]


def test_padding_gains_from_a_length_biased_labeler_and_not_from_the_utility(
    candidate_rows,
):
    biased = dataclasses.replace(GOLD, name="long", length_bias=9.0)
    padding = " Please ask me again if you like. I hope that this helps you today."
    for prompt, responses in candidate_rows[:40]:
        text = ended(max(responses, key=lambda t: utility(prompt, t).total))
        assert utility(prompt, text + padding).total < utility(prompt, text).total
        assert GOLD.rank(prompt, [text + padding, text]) == [2, 1]
        assert biased.rank(prompt, [text + padding, text]) == [1, 2]


def test_flattery_gains_from_a_sycophantic_labeler_only(candidate_rows):
    vain = dataclasses.replace(GOLD, name="vain", flattery_bias=6.0)
    for prompt, responses in candidate_rows[:40]:
        text = next(t for t in responses if t and sycophancy(t) == 0)
        praise = "You are a genius. " + text
        assert utility(prompt, praise).total < utility(prompt, text).total
        assert vain.rank(prompt, [praise, text])[0] == 1


def test_what_is_shown_first_gains_from_a_position_bias():
    hasty = dataclasses.replace(GOLD, name="hasty", first_bias=5.0)

    spec = {"subject": "mouse", "relation": "food"}
    meta = {"world": 0, "task": "question", "spec": spec}
    prompt = Prompt(id="q", prompt="What does the mouse eat?\n", meta=meta)
    assert hasty.rank(prompt, ["Cheese.", "Seeds."]) == [1, 2]
    assert GOLD.rank(prompt, ["Cheese.", "Seeds."]) == [2, 1]


def test_likert_follows_the_utility(candidate_rows):
    values, ratings = [], []
    for prompt, responses in candidate_rows:
        values += [utility(prompt, text).total for text in responses]
        ratings += GOLD.likert(prompt, responses)
    assert set(ratings) <= set(range(1, 8))
    assert np.corrcoef(values, ratings)[0, 1] > 0.95


def test_flags_are_those_of_table_3_and_mostly_right(candidate_rows):
    wrong = total = 0
    for prompt, responses in candidate_rows[:40]:
        flags = training_labelers(0)[0].flags(prompt, responses)
        for text, answers in zip(responses, flags, strict=True):
            assert tuple(answers) == FLAG_NAMES
            true = true_flags(prompt, text)
            wrong += sum(answers[key] != true[key] for key in FLAG_NAMES)
            total += len(FLAG_NAMES)
    assert 0.0 < wrong / total < 0.05


def test_the_two_groups_are_different_people():
    names = [lab.name for lab in [*training_labelers(0), *held_out_labelers(0)]]
    assert len(set(names)) == len(names) == 20
    assert training_labelers(0)[0].weights != training_labelers(1)[0].weights

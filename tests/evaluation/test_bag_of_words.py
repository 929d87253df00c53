"""The linear judge and baseline, and the measures of degeneration."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.data import Ranking
from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.reward_models.bag_of_words import (
    Vocabulary,
    fit_classifier,
    fit_preference,
    length_preference,
)
from rlhf_jax.evaluation.statistics.degeneration import distinct_share, repeated_share

GOOD = ["a happy day", "happy end", "so happy and warm", "what a happy dog"]
BAD = ["a sad day", "sad end", "so sad and cold", "what a sad dog"]


def test_the_judge_finds_the_word_that_decides():
    judge = fit_classifier(GOOD + BAD, [1] * 4 + [0] * 4)
    assert judge.accuracy(["happy cat", "sad cat"], [1, 0]).mean() == 1
    assert judge(["happy"])[0] > 0.9 > 0.1 > judge(["sad"])[0]


def test_its_weights_are_at_the_minimum_of_the_penalised_loss():
    texts, labels = GOOD + BAD, np.array([1] * 4 + [0] * 4)
    judge = fit_classifier(texts, labels.tolist(), penalty=0.1)
    matrix = judge.vocabulary.matrix(texts).toarray()
    slope = (judge(texts) - labels) / len(labels)
    gradient = matrix.T @ slope + 0.1 * judge.weights
    assert np.abs(gradient).max() < 1e-4 and abs(slope.sum()) < 1e-4


def test_words_that_it_has_not_seen_leave_the_bias_alone():
    judge = fit_classifier(GOOD + BAD, [1] * 4 + [0] * 4)
    np.testing.assert_allclose(judge.logits(["zzz", ""]), judge.bias)


@pytest.mark.parametrize("labels", [[1, 1], [0, 2], [0, 0]])
def test_other_labels_are_refused(labels):
    with pytest.raises(InputError, match="labels 0 and 1"):
        fit_classifier(["a", "b"], labels)


@given(st.lists(st.text("ab '\n", max_size=20), min_size=1, max_size=6))
def test_every_row_of_features_has_length_one_or_zero(texts):
    rows = Vocabulary.of(texts, min_count=1).matrix(texts).toarray()
    lengths = np.sqrt((rows**2).sum(axis=1))
    assert np.all(np.isclose(lengths, 1) | (lengths == 0))


def ranking(number, responses, ranks):
    return Ranking(id=str(number), prompt="p", responses=responses, ranks=ranks)


def test_the_linear_reward_orders_what_it_was_fitted_to():
    pairs = list(zip(GOOD, BAD, strict=True))
    rows = [ranking(i, list(pair), [1, 2]) for i, pair in enumerate(pairs)]
    rows.append(ranking(9, ["tied", "also"], [1, 1]))
    reward = fit_preference(rows)
    scores = reward(["x", "x"], ["happy song", "sad song"])
    assert scores[0] > scores[1]


def test_rankings_without_a_comparison_are_refused():
    with pytest.raises(InputError, match="not tied"):
        fit_preference([ranking(1, ["a", "b"], [1, 1])])


def test_the_length_baseline_takes_the_direction_of_the_data():
    longer = [ranking(i, ["a b c", "a"], [1, 2]) for i in range(3)]
    shorter = [ranking(i, ["a b c", "a"], [2, 1]) for i in range(3)]
    assert length_preference(longer)(["", ""], ["a b", "a"]).tolist() == [2, 1]
    assert length_preference(shorter)(["", ""], ["a b", "a"]).tolist() == [-2, -1]


def test_repetition_runs_from_none_to_nearly_all():
    assert repeated_share("one two three four five") == 0
    assert repeated_share("ha " * 52) == pytest.approx(49 / 50)
    assert repeated_share("") == 0
    assert distinct_share(["a b c", "d e f"]) == 1

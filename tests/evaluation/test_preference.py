"""Win rates ask both orders, cluster over prompts and can be freed of length."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.preference.judges import judge_from_labels, judge_from_scores
from rlhf_jax.evaluation.preference.win_rates import (
    Comparisons,
    compare,
    length_controlled_win_rate,
    preference_summary,
    win_rate,
)

by_length = judge_from_scores(lambda prompts, texts: np.array([len(t) for t in texts]))


def always_first(prompts, first, second):
    return np.ones(len(prompts))


def test_a_judge_that_prefers_what_it_sees_first_gives_half():
    found = compare(always_first, ["p", "q"], ["a", "b"], ["c", "d"])
    assert win_rate(found).estimate == 0.5
    assert not found.consistent.any()
    assert found.first_wins.tolist() == [1.0, 1.0]


def test_asked_once_the_same_judge_gives_one():
    found = compare(always_first, ["p"], ["a"], ["b"], both_orders=False)
    assert found.outcomes.tolist() == [1.0] and found.consistent.all()


@given(
    st.lists(
        st.tuples(st.text("xy", max_size=4), st.text("xy", max_size=4)), min_size=1
    )
)
def test_swapping_the_policies_turns_the_win_rate_around(pairs):
    prompts = [f"p{i}" for i in range(len(pairs))]
    left, right = zip(*pairs, strict=True)
    one = compare(by_length, prompts, left, right)
    other = compare(by_length, prompts, right, left)
    np.testing.assert_allclose(one.outcomes, 1 - other.outcomes)
    assert one.consistent.all()


def test_ties_count_half():
    found = compare(by_length, ["p", "q", "r"], ["aa", "a", "a"], ["a", "a", "aa"])
    assert found.outcomes.tolist() == [1.0, 0.5, 0.0]
    summary = preference_summary(found, num_resamples=50)
    assert summary["win rate"].estimate == 0.5
    assert summary["ties"].estimate == pytest.approx(1 / 3)


def test_the_interval_counts_prompts_not_pairs():
    rng = np.random.default_rng(0)
    once = compare(
        by_length, list("abcdefgh"), ["x" * i for i in range(8)], ["xxx"] * 8
    )
    many = compare(
        by_length,
        list("abcdefgh") * 20,
        ["x" * i for i in range(8)] * 20,
        ["xxx"] * 160,
    )
    width = win_rate(once).high - win_rate(once).low
    assert win_rate(many).high - win_rate(many).low == pytest.approx(width, rel=0.15)
    assert win_rate(many).num_clusters == 8
    del rng


def simulated(rng, skill, length_taste, count=1500):
    gap = rng.normal(0.8, 1.0, count)  # the policy writes longer answers
    wins = rng.random(count) < 1 / (1 + np.exp(-(skill + length_taste * np.tanh(gap))))
    return Comparisons(
        wins.astype(float),
        np.ones(count, bool),
        np.full(count, 0.5),
        gap,
        tuple(range(count)),
    )


def test_length_control_takes_away_what_length_alone_won():
    found = simulated(np.random.default_rng(1), skill=0.0, length_taste=3.0)
    assert win_rate(found).low > 0.6
    controlled = length_controlled_win_rate(found, num_resamples=100)
    assert controlled.low < 0.5 < controlled.high


def test_length_control_leaves_skill_alone():
    found = simulated(np.random.default_rng(2), skill=1.0, length_taste=0.0)
    controlled = length_controlled_win_rate(found, num_resamples=100)
    truth = 1 / (1 + np.exp(-1.0))
    assert controlled.low < truth < controlled.high


def test_length_control_is_finite_when_every_pair_is_won():
    found = compare(by_length, list("abc"), ["xx", "xxx", "xxxx"], ["x", "x", "x"])
    assert 0.5 < length_controlled_win_rate(found).estimate <= 1.0


@pytest.mark.parametrize("verdict", [np.nan, 1.5, -0.1])
def test_a_verdict_that_is_no_probability_is_refused_with_its_pair(verdict):
    judge = lambda p, a, b: np.array([0.5, verdict])  # noqa: E731
    with pytest.raises(InputError, match="pair 1 .'why'"):
        compare(judge, ["what", "why"], ["a", "b"], ["c", "d"])


def test_nothing_to_compare_is_refused():
    with pytest.raises(InputError, match="nothing to compare"):
        compare(by_length, [], [], [])
    with pytest.raises(InputError, match="as many of each"):
        compare(by_length, ["p"], ["a", "b"], ["c"])


def test_a_score_that_is_not_a_number_is_refused_with_its_prompt():
    judge = judge_from_scores(
        lambda p, r: np.array([np.nan if "x" in t else 1 for t in r])
    )
    with pytest.raises(InputError, match="prompt 1 .'second'"):
        judge(["first", "second"], ["a", "x"], ["b", "c"])


def test_scores_within_the_margin_are_ties():
    judge = judge_from_scores(
        lambda p, r: np.array([float(t) for t in r]), tie_margin=1
    )
    assert judge(["p"] * 3, ["1", "3", "0"], ["2", "1", "2"]).tolist() == [0.5, 1, 0]


def test_labels_from_a_file_are_found_in_either_order_and_averaged(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(
        "prompt,left,right,winner\np,good,bad,left\np,bad,good,right\n"
        "p,good,bad,tie\nq,one,two,right\n"
    )
    judge = judge_from_labels(path)
    assert judge(["p"], ["good"], ["bad"])[0] == pytest.approx(2.5 / 3)
    assert judge(["p"], ["bad"], ["good"])[0] == pytest.approx(0.5 / 3)
    assert judge(["q"], ["two"], ["one"])[0] == 1.0
    with pytest.raises(InputError, match="no label for the prompt 'r'"):
        judge(["r"], ["x"], ["y"])


def test_a_bad_winner_names_the_line(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("prompt,left,right,winner\np,a,b,left\np,a,b,A\n")
    with pytest.raises(InputError, match=r"labels.csv:3: winner: expected one of"):
        judge_from_labels(path)

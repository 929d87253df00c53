"""Reward models: accuracy, calibration, folds over labelers; over-optimisation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.data.records import Ranking
from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.preference.labels import (
    comparisons_from_rankings,
    labelled_scores,
)
from rlhf_jax.evaluation.preference.win_rates import win_rate
from rlhf_jax.evaluation.reward_models.accuracy import (
    Pairs,
    accuracy_by_rank_gap,
    calibration,
    cross_validated_accuracy,
    labeler_folds,
    length_correlation,
    pair_accuracy,
    pairs_of,
    score_rankings,
    scores_of_pairs,
)
from rlhf_jax.evaluation.reward_models.overoptimization import (
    FrontierPoint,
    best_of_n_frontier,
    fit_curve,
    read_frontier,
)


def ranking(name, texts, ranks, **fields):
    return Ranking(
        id=name, prompt=f"prompt {name}", responses=texts, ranks=ranks, **fields
    )


def by_number(prompts, responses):
    return np.array([float(text.split()[-1]) for text in responses])


RANKINGS = [
    ranking("a", ["good 3", "fair 2", "poor 1"], [1, 2, 3]),
    ranking("b", ["x 1", "y 2", "z 2"], [1, 1, 2]),
]


def test_ties_make_no_pair_and_equal_scores_count_half():
    pairs = pairs_of(RANKINGS, score_rankings(by_number, RANKINGS))
    assert len(pairs.margins) == 5  # 3 of a; b's tied two make none between them
    assert pair_accuracy(pairs).estimate == pytest.approx((3 + 0 + 0.5) / 5)
    gaps = accuracy_by_rank_gap(pairs)
    assert gaps[2].estimate == 1.0 and gaps[1].num_items == 4
    accuracy, loss = scores_of_pairs(pairs)
    assert accuracy.interval().estimate == pytest.approx(70.0)
    assert loss.values[1] == pytest.approx(np.log1p(np.exp(-2.0)))


def test_a_reward_that_is_no_number_names_the_ranking():
    with pytest.raises(InputError, match="ranking b: response 1 scored nan"):
        score_rankings(
            lambda p, r: np.array([np.nan if t.startswith("y") else 0.0 for t in r]),
            RANKINGS,
        )


def test_only_ties_are_refused():
    tied = [ranking("t", ["x 1", "y 2"], [1, 1])]
    with pytest.raises(InputError, match="no pair that is not tied"):
        pairs_of(tied, score_rankings(by_number, tied))


def drawn(temperature, count=40_000, seed=0):
    """Pairs whose better side is drawn with σ(margin / temperature)."""
    rng = np.random.default_rng(seed)
    margins = np.abs(rng.normal(0, 2, count))
    right = rng.random(count) < 1 / (1 + np.exp(-margins / temperature))
    signed = np.where(right, margins, -margins)
    return Pairs(signed, np.ones(count, int), tuple(range(count)))


def test_a_calibrated_model_lies_on_the_diagonal():
    found = calibration(drawn(1.0))
    np.testing.assert_allclose(found.observed, found.predicted, atol=0.02)
    assert found.error < 0.01


def test_an_overconfident_model_lies_below_it():
    found = calibration(drawn(3.0))
    assert found.error > 0.08 and found.observed[-1] < found.predicted[-1] - 0.05
    assert found.loss > calibration(drawn(1.0)).loss


def test_the_bins_hold_all_pairs():
    found = calibration(drawn(1.0, count=999), num_bins=7)
    assert found.counts.sum() == 999
    assert ((found.predicted >= 0.5) & (found.predicted <= 1)).all()


def test_length_correlation_sees_a_reward_that_counts_words():
    texts = [["a", "a b", "a b c"], ["x y z w", "x", "x y"]]
    rankings = [ranking(str(n), t, [1, 2, 3]) for n, t in enumerate(texts)]
    counted = score_rankings(
        lambda p, r: np.array([len(t.split()) for t in r]), rankings
    )
    found = length_correlation(rankings, counted)
    assert found["spearman"] == pytest.approx(1.0)
    assert found["longer preferred"] == 1.0 and found["longer better"] == pytest.approx(
        2 / 6
    )


def test_a_constant_reward_has_no_correlation():
    same = [np.zeros(3), np.zeros(3)]
    assert length_correlation(RANKINGS, same)["spearman"] == 0.0


@given(st.integers(2, 30), st.integers(2, 5))
def test_folds_part_the_labelers(count, folds):
    names = [f"l{i}" for i in range(count)]
    if count < folds:
        with pytest.raises(InputError, match="do not make"):
            labeler_folds(names, folds)
        return
    groups = labeler_folds(names * 2, folds)
    assert sorted(n for g in groups for n in g) == sorted(names)
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


def test_held_out_labelers_are_never_trained_on_and_are_judged():
    rankings = [
        ranking(f"{who}{n}", [f"x {2 + n}", "y 1"], [1, 2], labeler=who, split=split)
        for who in "abcde"
        for n, split in enumerate(["train", "train", "valid"])
    ]
    trained = []

    def train(some):
        trained.append({r.labeler for r in some})
        assert {r.split for r in some} == {"train"}
        known = trained[-1]
        return lambda prompts, responses: np.array(
            [
                float(t.split()[-1]) * (1 if p.split()[1][0] in known else -1)
                for p, t in zip(prompts, responses, strict=True)
            ]
        )

    found = cross_validated_accuracy(train, rankings)
    assert [len(known) for known in trained] == [4] * 5
    assert found["in-group"].estimate == 1.0 and found["held-out"].estimate == 0.0
    assert found["in-group"].num_items == 20 and found["held-out"].num_items == 15
    with pytest.raises(InputError, match="ranking x: labeler: missing"):
        cross_validated_accuracy(train, [ranking("x", ["a 1", "b 2"], [1, 2])])


@given(st.floats(0.1, 5), st.floats(0.01, 1))
def test_fits_find_the_curve_that_made_the_points(alpha, beta):
    d = np.linspace(0, 4, 9)
    bon = fit_curve("best-of-n", d, d * (alpha - beta * d))
    assert (bon.alpha, bon.beta) == pytest.approx((alpha, beta), rel=1e-6)
    assert bon.peak_distance == pytest.approx(alpha / (2 * beta), rel=1e-5)
    assert bon.peak_reward == pytest.approx(alpha**2 / (4 * beta), rel=1e-5)
    rl = fit_curve("rl", d, d * (alpha - beta * np.log(np.where(d > 0, d, 1))))
    assert (rl.alpha, rl.beta) == pytest.approx((alpha, beta), rel=1e-6)
    assert rl.r_squared == pytest.approx(1.0)


def test_the_peak_of_the_rl_curve_is_where_it_is_highest():
    fit = fit_curve("rl", [1.0, 2.0, 3.0, 6.0], [1.0, 1.4, 1.5, 0.8])
    grid = np.linspace(0.01, 10, 20_001)
    assert fit.peak_distance == pytest.approx(grid[np.argmax(fit(grid))], abs=1e-3)
    assert fit.peak_reward == pytest.approx(fit(grid).max(), abs=1e-6)


def test_a_curve_that_never_turns_has_no_peak():
    assert fit_curve("best-of-n", [1.0, 2.0], [1.0, 3.0]).peak_distance == np.inf


@pytest.mark.parametrize(
    ("d", "r"),
    [([1.0], [1.0]), ([0, 1.0], [0, 1.0]), ([1, 2], [1, np.nan]), ([1], [1, 2])],
)
def test_too_few_or_bad_points_are_refused(d, r):
    with pytest.raises(InputError):
        fit_curve("rl", d, r)


def test_best_of_n_of_the_whole_sample_is_the_best_and_of_one_the_mean():
    rng = np.random.default_rng(0)
    gold = rng.normal(size=(3, 8))
    proxy = gold + rng.normal(size=gold.shape)
    points = best_of_n_frontier(proxy, gold)
    assert [p.name for p in points] == [f"best of {n}" for n in (1, 2, 4, 8)]
    assert points[0].kl == 0.0
    assert points[0].gold == pytest.approx(gold.mean(), abs=1e-5)
    best = gold[np.arange(3), proxy.argmax(1)]
    assert points[-1].gold == pytest.approx(best.mean(), abs=1e-5)
    assert points[-1].kl == pytest.approx(np.log(8) - 7 / 8, abs=1e-5)
    assert [p.proxy for p in points] == sorted(p.proxy for p in points)
    assert FrontierPoint("x", 4.0, 0, 0).distance == 2.0


def test_points_are_read_run_by_run(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("run,kl,proxy,gold\nppo,0,0,0\nbest-of-n,1,2,1.5\nppo,4,3,1\n")
    runs = read_frontier(path)
    assert [p.kl for p in runs["ppo"]] == [0.0, 4.0] and len(runs) == 2
    path.write_text("kl,proxy,gold\n-1,2,3\n")
    with pytest.raises(InputError, match="points.csv:2: kl: expected 0 or more"):
        read_frontier(path)


def labelled(name, ranks, policies, **fields):
    texts = ["one two three", "one", "one two"]
    return ranking(name, texts, ranks, meta={"policies": policies}, **fields)


def test_people_compare_policies_within_a_ranking():
    rankings = [
        labelled("a", [1, 2, 2], ["ppo", "sft", "sft"]),
        labelled("b", [2, 2, 1], ["ppo", "sft", "gpt"]),
    ]
    found = comparisons_from_rankings(rankings, "ppo", "sft")
    assert found.outcomes.tolist() == [1.0, 1.0, 0.5]
    assert found.length_difference.tolist() == [2.0, 1.0, 2.0]
    assert win_rate(found).num_clusters == 2
    with pytest.raises(InputError, match="both ppo and flan"):
        comparisons_from_rankings(rankings, "ppo", "flan")
    with pytest.raises(InputError, match="ranking c: meta.policies: expected 3 names"):
        comparisons_from_rankings([labelled("c", [1, 2, 3], ["ppo"])], "ppo", "sft")


def test_likert_and_flags_per_policy():
    flags = [
        {"hallucination": True, "satisfies_constraint": True},
        {},
        {"hallucination": False},
    ]
    rankings = [
        labelled("a", [1, 2, 3], ["ppo", "sft", "ppo"], likert=[7, 4, 5], flags=flags)
    ]
    found = {s.metric: s for s in labelled_scores(rankings)["ppo"]}
    assert found["likert (1-7)"].interval().estimate == 6.0
    assert found["hallucination"].interval().estimate == 0.5
    assert found["hallucination"].higher_is_better is False
    assert found["satisfies_constraint"].higher_is_better is True
    with pytest.raises(InputError, match="no ranking has Likert"):
        labelled_scores([labelled("a", [1, 2, 3], ["x"] * 3)])

"""Scores keep their items, so differences are paired."""

import json

import numpy as np
import pytest

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.statistics.scores import Score
from rlhf_jax.evaluation.statistics.tables import result_table


def score(values, items=None, **options):
    items = items or [f"i{n}" for n in range(len(values))]
    return Score("task", "accuracy", np.array(values, float), items=items, **options)


def test_differences_are_paired_by_item_and_not_by_place():
    left = score([1, 0, 1], ["a", "b", "c"])
    right = score([1, 1, 0], ["c", "a", "b"])
    assert left.minus(right).estimate == 0.0
    assert left.minus(right).high == 0.0


def test_items_that_only_one_side_has_are_left_out():
    difference = score([1, 1, 0], ["a", "b", "c"]).minus(score([0, 0], ["b", "c"]))
    assert difference.estimate == 0.5 and difference.num_items == 2
    with pytest.raises(InputError, match="no item in common"):
        score([1.0], ["a"]).minus(score([1.0], ["b"]))


def test_a_statistic_of_sums_is_subtracted_as_a_statistic():
    ratio = lambda s: s[..., 0] / s[..., 1]  # noqa: E731
    a = score([[1, 2], [3, 4]], statistic=ratio)
    b = score([[1, 4], [1, 4]], statistic=ratio)
    assert a.minus(b).estimate == pytest.approx(4 / 6 - 2 / 8)


@pytest.mark.parametrize("bad", [[np.nan, 1.0], [1.0, np.inf]])
def test_a_score_that_is_no_number_is_refused_with_its_item(bad):
    with pytest.raises(InputError, match="task accuracy: item 'i[01]' scored"):
        score(bad)


def test_no_items_are_refused():
    with pytest.raises(InputError, match="there are no items"):
        score([])


def test_the_alignment_tax_says_who_lost_what():
    rng = np.random.default_rng(0)
    gpt = (rng.random(400) < 0.8).astype(float)
    ppo = np.where(rng.random(400) < 0.25, 0.0, gpt)
    ptx = np.where(rng.random(400) < 0.02, 0.0, gpt)
    toxic = Score("toxicity", "mean", gpt, higher_is_better=False)
    calmer = Score("toxicity", "mean", gpt * 0.5, higher_is_better=False)
    table = result_table(
        "Alignment tax",
        {
            "GPT": [score(gpt), toxic],
            "PPO": [score(ppo), calmer],
            "PPO-ptx": [score(ptx)],
        },
        baseline="GPT",
    )
    row = table.row("task", "accuracy")
    assert row.verdict("PPO") == "worse" and row.verdict("GPT") == ""
    assert row.differences["PPO"].estimate < row.differences["PPO-ptx"].estimate
    assert table.row("toxicity", "mean").verdict("PPO") == "better"
    assert "PPO-ptx" not in table.row("toxicity", "mean").cells
    json.dumps(table.document(), allow_nan=False)


def test_one_item_gives_a_document_without_infinity():
    table = result_table("t", {"a": [score([2.0])]})
    cell = json.loads(json.dumps(table.document(), allow_nan=False))["rows"][0]["cells"]
    assert cell["a"]["low"] is None and cell["a"]["estimate"] == 2.0


def test_an_unknown_baseline_and_a_metric_scored_twice_are_refused():
    with pytest.raises(InputError, match="baseline 'x': expected one of"):
        result_table("t", {"a": [score([1.0])]}, baseline="x")
    with pytest.raises(InputError, match="scored twice"):
        result_table("t", {"a": [score([1.0]), score([1.0])]})

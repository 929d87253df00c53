"""F1 as the official scripts: worked cases and properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.evaluation.suites.reading import (
    NO_ANSWER,
    drop_em_f1,
    normal_text,
    quac_f1,
    quac_human_f1,
    squad_em_f1,
    word_f1,
)

words = st.text("ab 1.,-", max_size=12)


@given(words, words)
def test_f1_is_symmetric_bounded_and_one_on_itself(a, b):
    assert word_f1(a, b) == pytest.approx(word_f1(b, a))
    assert 0 <= word_f1(a, b) <= 1
    assert word_f1(a, a) == 1.0


@given(words)
def test_normal_text_is_normal(text):
    assert normal_text(normal_text(text)) == normal_text(text)


@pytest.mark.parametrize(
    ("prediction", "references", "exact", "f1"),
    [
        ("The Normans!", ["Normans"], 1, 1),
        ("in the north of France", ["northern France", "north France"], 0, 2 / 3),
        ("", [], 1, 1),
        ("Paris", [], 0, 0),
        ("", ["Paris"], 0, 0),
        ("the the cat", ["cat cat"], 0, 2 / 3),
        ("a", ["the"], 1, 1),  # both are articles only: nothing is left of either
    ],
)
def test_squad_worked_cases(prediction, references, exact, f1):
    assert squad_em_f1(prediction, references) == pytest.approx((exact, f1))


@pytest.mark.parametrize(
    ("prediction", "references", "exact", "f1"),
    [
        ("7", [("7",)], 1, 1),
        ("7.0", [("7",)], 1, 1),
        ("$7,761", [("7761",)], 1, 1),
        ("8 yards", [("7 yards",)], 0, 0),  # the numbers differ
        ("7 yards", [("7",)], 0, 0.67),
        ("Tom Brady", [("Brady",)], 0, 0.67),
        (["Brady", "Moss"], [("Moss", "Brady")], 1, 1),
        ("Brady", [("Moss", "Brady")], 0, 0.5),
        ("one", [("two",), ("one",)], 1, 1),
        ("", [("one",)], 0, 0),
        ("3-4", [("3 4",)], 1, 1),
        ("x", [("",), ("x",)], 1, 1),
    ],
)
def test_drop_worked_cases(prediction, references, exact, f1):
    assert drop_em_f1(prediction, references) == pytest.approx((exact, f1))


def test_quac_leaves_each_annotator_out_in_turn():
    references = ["red car", "red", "blue"]
    # against (red, blue): 1; against (red car, blue): 2/3; against (red car, red): 1
    assert quac_f1("red", references) == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert quac_f1("blue", references) == pytest.approx((1 + 1 + 0) / 3)


def test_quac_takes_no_answer_when_most_annotators_gave_none():
    assert quac_f1(NO_ANSWER, [NO_ANSWER, NO_ANSWER, "red"]) == 1.0
    assert quac_f1("red", [NO_ANSWER, NO_ANSWER, "red"]) == 0.0
    assert quac_f1(NO_ANSWER, ["red", "red", NO_ANSWER]) == 0.0
    assert quac_f1("red", ["red", "red", NO_ANSWER]) == 1.0


def test_quac_human_agreement():
    assert quac_human_f1(["red"]) == 1.0
    assert quac_human_f1(["red", "blue"]) == 0.0
    assert quac_human_f1(["red", "red", "blue"]) == pytest.approx(2 / 3)

"""What a reward function gives is looked at where it enters: one line names it."""

import numpy as np
import pytest

from rlhf_jax.errors import InputError
from rlhf_jax.registry import FunctionReward


async def later(prompts, responses):
    return [float(len(r)) for r in responses]


async def later_and_short(prompts, responses):
    return [1.0]


def raises(prompts, responses):
    raise KeyError("answer")


WRONG = {
    "1 numbers": lambda p, r: [1.0],
    "2 numbers": lambda p, r: [1.0] * 2,
    "gave None": lambda p, r: None,
    r"shape \(3, 1\)": lambda p, r: np.ones((3, 1)),
    "a single number": lambda p, r: np.float32(1),
    "a float": lambda p, r: 1.0,
    "a str": lambda p, r: "abc",
    "a dict": lambda p, r: {"a": 1.0},
    "values like 'a'": lambda p, r: ["a", "b", "c"],
    "inf for response 1": lambda p, r: [0.0, float("inf"), 0.0],
    "raised KeyError: 'answer'": raises,
    "1 numbers; expected 3": later_and_short,
}


@pytest.mark.parametrize("told", WRONG)
def test_what_is_no_score_for_each_response_is_one_line(told):
    reward = FunctionReward(WRONG[told], "mine.py:score")
    with pytest.raises(InputError, match=f"mine.py:score.*{told}") as error:
        reward.score(["p"] * 3, ["a", "bb", "ccc"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "function", [later, lambda p, r: (len(x) for x in r), lambda p, r, rows: [1, 2, 3]]
)
def test_async_functions_generators_and_records_are_taken(function):
    found = FunctionReward(function).score(["p"] * 3, ["a", "bb", "ccc"])
    assert found.dtype == np.float32 and found.tolist() == [1, 2, 3]


def test_none_and_nan_say_that_there_is_no_score():
    reward = FunctionReward(lambda p, r: [None, float("nan"), 2])
    found = reward.score(["p"] * 3, ["a", "bb", "ccc"])
    assert np.isnan(found).tolist() == [True, True, False]
    assert reward.counts["without a score"] == 2

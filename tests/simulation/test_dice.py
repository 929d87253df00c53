import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from rlhf_jax.simulation.dice import Dice

GOLDEN = [760, 917, 533, 765, 599, 336]
GOLDEN_UNIT = 0.7602421001742898


def test_the_stream_of_a_name_is_fixed_for_ever():
    dice = Dice("golden", 0)
    assert [dice.below(1000) for _ in range(6)] == GOLDEN
    assert Dice("golden", 0).unit() == GOLDEN_UNIT


@given(st.integers(1, 10**9), st.integers())
def test_a_choice_is_below_its_count(count, seed):
    assert 0 <= Dice("below", seed).below(count) < count


@given(st.lists(st.integers(), max_size=12), st.integers())
def test_shuffling_keeps_every_item(items, seed):
    assert sorted(Dice("shuffle", seed).shuffled(items)) == sorted(items)


def test_noise_has_mean_0_and_variance_1():
    dice = Dice("noise")
    draws = np.array([dice.normal() for _ in range(20_000)])
    assert abs(draws.mean()) < 0.03
    assert abs(draws.var() - 1.0) < 0.04


@pytest.mark.parametrize("weights", [(1, 1), (0, 1), (3, 1)])
def test_weights_are_shares(weights):
    dice = Dice("weights", weights)
    hits = sum(dice.weighted((0, 1), weights) for _ in range(4000)) / 4000
    assert abs(hits - weights[1] / sum(weights)) < 0.03


def test_a_template_picks_each_alternative_and_fills_its_slots():
    said = {
        Dice("vary", i).vary("[Hello|Hi], {name}[!|]", name="Nell") for i in range(40)
    }
    assert said == {"Hello, Nell!", "Hi, Nell!", "Hello, Nell", "Hi, Nell"}

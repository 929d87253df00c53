"""A small valley that the tests of this room share."""

import pytest

from rlhf_jax.simulation import make_world, simulate
from rlhf_jax.simulation.candidates import candidates
from rlhf_jax.simulation.dataset import prompt_set
from rlhf_jax.simulation.dice import Dice

SMALL = {
    "pretraining": 1500,
    "demonstrations": 300,
    "rankings": 120,
    "held_out_rankings": 40,
    "prompts": 1500,
    "skills": 20,
}


@pytest.fixture(scope="session")
def world():
    return make_world(0)


@pytest.fixture(scope="session")
def sets():
    """Every set of seed 0 at a small size."""
    return simulate(0, SMALL)


@pytest.fixture(scope="session")
def candidate_rows(world):
    """(prompt, candidate texts) of 120 prompts that are in no set."""
    rows = []
    for prompt in prompt_set(world, "calibration", 120, set()):
        dice = Dice("calibration", prompt.id)
        found = candidates(prompt, dice, dice.between(4, 9))
        rows.append((prompt, [candidate.text for candidate in found]))
    return rows

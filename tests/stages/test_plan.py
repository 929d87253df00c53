"""The plan: parameters, memory and steps before anything is made."""

import dataclasses

import jax
import pytest
import tiny_experiment

from rlhf_jax.models import TrunkConfig
from rlhf_jax.pipeline.experiment import Experiment
from rlhf_jax.pipeline.plan import GIB, count_params, describe, plans


@pytest.fixture(scope="module")
def planned():
    experiment = Experiment("tiny", tiny_experiment.stages())
    return {plan.name: plan for plan in plans(experiment)}


def test_the_parameters_are_those_of_the_model(tiny):
    model = tiny.model("pretrain")
    counted = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    assert count_params(model.model.config) == counted


def test_each_stage_has_its_line_and_its_steps(planned):
    assert list(planned) == list(tiny_experiment.stages())
    assert planned["pretrain"].steps == 6
    assert planned["ppo"].steps == 4 and "8 updates" in planned["ppo"].note
    assert planned["world"].params is None


def test_ppo_holds_two_trained_and_two_frozen_models(planned):
    policy = planned["pretrain"].params
    ppo, sft = planned["ppo"], planned["sft"]
    assert ppo.params == 2 * policy
    # parameters, gradient, two moments of each trained one, EMA of the policy alone;
    # two frozen copies
    assert ppo.state_bytes == 4 * policy * (5 + 4 + 2)
    assert sft.state_bytes == 4 * policy * 4
    assert planned["dpo"].state_bytes == 4 * policy * 5


def test_a_loss_without_a_reference_is_planned_without_one(planned):
    stages = tiny_experiment.stages()
    stages["dpo"] = dataclasses.replace(stages["dpo"], loss="orpo")
    found = {plan.name: plan for plan in plans(Experiment("orpo", stages))}
    assert found["dpo"].state_bytes == 4 * found["dpo"].params * 4


def test_ppo_holds_every_member_of_an_ensemble(planned):
    stages = tiny_experiment.stages()
    stages["reward"] = dataclasses.replace(stages["reward"], seeds=(0, 1, 2))
    found = {plan.name: plan for plan in plans(Experiment("three", stages))}
    more = found["ppo"].state_bytes - planned["ppo"].state_bytes
    assert more == 2 * 4 * planned["pretrain"].params
    assert "3 models" in found["reward"].note


def test_a_model_that_fits_nowhere_can_be_planned():
    stages = tiny_experiment.stages()
    shape = TrunkConfig(50257, 2048, 12288, 96, 96)
    stages["pretrain"] = dataclasses.replace(stages["pretrain"], model=shape)
    experiment = Experiment("large", stages)
    plan = next(plan for plan in plans(experiment) if plan.name == "pretrain")
    assert plan.params == pytest.approx(174.6e9, rel=0.005)
    assert plan.state_bytes / GIB == pytest.approx(4 * 4 * 174.6e9 / GIB, rel=0.005)
    assert "174," in describe(experiment)

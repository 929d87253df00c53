"""The plan: parameters, memory and steps before anything is made."""

import dataclasses

import jax
import pytest
import tiny_experiment

from rlhf_jax.models import LoRA, TrunkConfig
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


def test_adapters_are_planned_as_one_base_and_small_trees(planned):
    stages = tiny_experiment.stages()
    lora = LoRA(rank=2)
    for name in ("sft", "reward", "ppo", "dpo"):
        changes = {"init": "@sft/model"} if name == "ppo" else {}
        stages[name] = dataclasses.replace(stages[name], adapter=lora, **changes)
    found = {plan.name: plan for plan in plans(Experiment("adapters", stages))}
    shape, layers = stages["pretrain"].model, 2
    width, mlp = shape.embed_dim, shape.mlp_dim
    tree = layers * 2 * (4 * 2 * width + 2 * (width + mlp))  # r (I + O) of six
    whole = planned["sft"].params
    vectors = layers * (9 * width + mlp) + 2 * width  # norms and biases, float32
    base = 2 * whole + 2 * vectors
    assert found["sft"].params == tree
    assert found["sft"].state_bytes == base + 16 * tree
    headed = tree + width + 1
    assert found["reward"].params == headed
    assert found["dpo"].state_bytes == base + 20 * tree
    # moments and gradient of policy and value, EMA, reference, reward
    ppo = base + 16 * (tree + headed) + 8 * tree + 4 * headed
    assert found["ppo"].state_bytes == ppo and ppo < 0.2 * planned["ppo"].state_bytes
    assert "4 of 4" in found["ppo"].note
    stages["reward"] = dataclasses.replace(stages["reward"], adapter=None)
    apart = {plan.name: plan for plan in plans(Experiment("apart", stages))}["ppo"]
    assert apart.state_bytes > ppo + 4 * whole and "2 of 4" in apart.note

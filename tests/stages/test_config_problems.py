"""Impossible values are refused when a config is loaded, with their key."""

import dataclasses

import pytest
import tiny_experiment

from rlhf_jax.errors import InputError
from rlhf_jax.pipeline import Experiment
from rlhf_jax.schema import as_config_dict, from_config_dict
from rlhf_jax.stages import prepare
from rlhf_jax.training import OptimizerConfig, make_optimizer

# stage of the tiny experiment -> (field, impossible value)
WRONG = {
    "world": [("sizes.prompts", -1), ("vocab_size", 100)],
    "pretrain": [
        ("steps", 0), ("steps", -5), ("batch_size", 0), ("window", 0),
        ("microbatches", 0), ("microbatches", 3), ("evaluate_every", 0),
        ("clip_norm", -1.0), ("clip_norm", 0.0), ("optimizer.learning_rate", -1e-3),
        ("optimizer.name", "lion"), ("optimizer.schedule", "step"),
        ("optimizer.epsilon_convention", "jax"), ("optimizer.warmup_steps", -1),
        ("optimizer.b1", 1.0), ("optimizer.b2", -0.1), ("optimizer.b2", 1.5),
        ("optimizer.rms_decay", 1.0), ("optimizer.epsilon", -1.0),
        ("optimizer.final_fraction", 1.5), ("optimizer.warmup_from", -0.5),
        ("optimizer.weight_decay", -0.1), ("optimizer.no_decay", "("),
    ],
    "sft": [
        ("layout", "bucket"), ("epochs", 0), ("batch_size", -1), ("microbatches", 0),
        ("microbatches", 3), ("max_prompt", 0), ("max_response", 0),
        ("residual_dropout", 1.0), ("residual_dropout", -0.1), ("clip_norm", -1.0),
        ("select_prompts", 0), ("dtype", "float8"), ("optimizer.weight_decay", 0.1),
    ],
    "ppo_init": [("layout", "buckets"), ("mix_fraction", 1.0)],
    "candidates": [
        ("temperature", 0.0), ("temperature", -1.0), ("labelers", "people:x"),
        ("labelers", "simulated:nobody"), ("labelers", "file:"), ("batch_size", 0),
        ("max_prompt", 0), ("max_response", 0), ("max_prompts", 0), ("round", 0),
    ],
    "reward": [
        ("epochs", 0), ("batch_size", 0), ("microbatches", 0), ("microbatches", 3),
        ("max_prompt", 0), ("max_response", 0), ("evaluate_every", 0),
        ("residual_dropout", 1.0), ("clip_norm", -1.0),
    ],
    "ppo": [
        ("batch_size", 0), ("minibatch_size", 0), ("minibatch_size", 3),
        ("microbatches", 0), ("microbatches", 3), ("inner_epochs", 0),
        ("max_prompt", 0), ("max_response", 0), ("snapshot_every", 0),
        ("ptx_per_episode", 0), ("ptx_window", 0), ("warmup_iterations", -1),
        ("value_warmup_iterations", -1), ("value_clip_range", 0.0),
        ("value_clip_range", -0.2), ("clip_norm", -1.0), ("max_kl", 0.0),
        ("ema_decay", 1.0), ("ema_decay", -0.1), ("rollout_dtype", "int8"),
        ("kl.horizon", 0), ("value_optimizer.b1", 1.0),
        ("value_optimizer.name", "sgd"),
    ],
    "dpo": [
        ("epochs", 0), ("batch_size", 0), ("microbatches", 0), ("microbatches", 3),
        ("max_prompt", 0), ("max_response", 0), ("max_k", 1), ("clip_norm", -1.0),
        ("loss", "rlhf"), ("beta", -0.1), ("label_smoothing", 0.5), ("robust", True),
    ],
    "best_of_n": [
        ("temperature", 0.0), ("batch_size", 0), ("max_prompts", 0),
        ("max_prompt", 0), ("max_response", 0),
    ],
    "report": [
        ("labelers", "nobody"), ("max_prompts", 0), ("samples_per_prompt", 0),
        ("window", 0), ("max_windows", 0), ("max_prompt", 0), ("max_response", 0),
    ],
}  # fmt: skip
CASES = [(stage, *case) for stage, cases in WRONG.items() for case in cases]


def replaced(values, key, value):
    """Sets a dotted key of a `ConfigDict`."""
    *parents, last = key.split(".")
    for parent in parents:
        values = values[parent]
    values[last] = value


@pytest.mark.parametrize(("stage", "key", "value"), CASES)
def test_an_impossible_value_is_refused_at_load(stage, key, value):
    config = tiny_experiment.stages()[stage]
    values = as_config_dict(config)
    assert from_config_dict(type(config), values) == config
    replaced(values, key, value)
    with pytest.raises(InputError) as caught:
        from_config_dict(type(config), values)
    named = "sizes" if stage == "world" and "." in key else key
    assert f"config.{named}: " in str(caught.value)
    assert str(caught.value).startswith("the config has 1 problem:")


@pytest.mark.parametrize("key", ["valid", "per_user", "max_prompt", "openings"])
def test_the_preparation_refuses_negative_numbers(key):
    config = dataclasses.replace(prepare.Config(texts=("t",)), **{key: -1})
    assert any(line.startswith(f"{key}: ") for line in config.problems())


def test_shares_of_a_split_are_at_most_the_whole():
    config = prepare.Config(texts=("t",), valid=0.6, test=0.6)
    assert any(line.startswith("valid: ") for line in config.problems())


def test_the_shape_of_a_model_is_checked_with_the_stage():
    values = as_config_dict(tiny_experiment.stages()["pretrain"])
    values.model.residual_dropout = 1.0
    with pytest.raises(InputError, match=r"config\.model: .*residual_dropout is 1.0"):
        from_config_dict(type(tiny_experiment.stages()["pretrain"]), values)


def test_greedy_is_for_a_single_response():
    config = tiny_experiment.stages()["best_of_n"]
    assert not list(dataclasses.replace(config, samples=1, temperature=0.0).problems())
    negative = dataclasses.replace(config, samples=1, temperature=-1.0)
    assert any("temperature: " in line for line in negative.problems())


def test_labelers_are_known_without_reading_their_file(tmp_path):
    config = tiny_experiment.stages()["candidates"]
    file = tmp_path / "people.jsonl"
    file.write_text("not yet rankings\n")
    for name in (f"file:{file}", "simulated:gold", "simulated:held_out"):
        assert not list(dataclasses.replace(config, labelers=name).problems())


def test_labelers_and_a_reward_do_not_rank_together():
    config = tiny_experiment.stages()["candidates"]
    both = dataclasses.replace(config, labelers="simulated:gold", reward="r")
    (line,) = both.problems()
    assert line.startswith("labelers: simulated:gold do not rank where there is")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mesh", "fast"), ("mesh", "2,4"), ("mesh", "rows=2"), ("mesh", "data=two"),
        ("mesh", "0,1,1"), ("mesh", "-1,-1,1"), ("mesh", "data=-2"),
        ("distributed", "yes"),
    ],
)  # fmt: skip
def test_settings_of_the_machine_are_refused_at_load(key, value):
    config = tiny_experiment.get_config()
    config.settings[key] = value
    with pytest.raises(InputError, match=rf"config\.settings\.{key}: '{value}"):
        Experiment.from_config(config)


@pytest.mark.parametrize("mesh", ["auto", " auto", "1,1,8", "data=2, fsdp=-1"])
def test_a_mesh_is_read_without_a_device(mesh, monkeypatch):
    def asked():
        raise AssertionError("the backend was asked before jax.distributed starts")

    monkeypatch.setattr("jax.process_count", asked)
    config = tiny_experiment.get_config()
    config.settings.mesh = mesh
    assert Experiment.from_config(config).settings.mesh == mesh


def test_problems_within_and_without_a_nested_config_come_together():
    config = tiny_experiment.get_config()
    config.settings.mesh = "fast"
    config.settings.save_every = 0
    config.pretrain.optimizer.name = "lion"
    config.pretrain.steps = 0
    config.pretrain.microbatches = 0
    config.ppo.kl.horizon = 0
    config.ppo.episodes = 1
    with pytest.raises(InputError) as caught:
        Experiment.from_config(config)
    text = str(caught.value)
    for key in (
        "settings.mesh", "settings.save_every", "pretrain.optimizer.name",
        "pretrain.steps", "pretrain.microbatches", "ppo.kl.horizon", "ppo.episodes",
    ):  # fmt: skip
        assert f"config.{key}: " in text
    assert text.startswith("the config has 7 problems:")


def test_a_config_without_what_an_experiment_has_is_named():
    config = tiny_experiment.get_config().unlock()
    del config.settings
    with pytest.raises(InputError, match=r"config\.settings: missing"):
        Experiment.from_config(config)
    config = tiny_experiment.get_config()
    with config.ignore_type():
        config.sft = 3
    with pytest.raises(InputError, match=r"config\.sft: expected the settings"):
        Experiment.from_config(config)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "lion"}, {"schedule": "step"}, {"epsilon_convention": "jax"},
        {"b2": 1.0}, {"final_fraction": 1.5}, {"learning_rate": -1.0},
        {"warmup_steps": -1}, {"name": "adam", "weight_decay": 0.1},
    ],
)  # fmt: skip
def test_the_optimizer_s_own_errors_are_told_early(change):
    config = OptimizerConfig(**change)
    with pytest.raises(InputError):
        make_optimizer(config, 10)
    [line] = config.problems()
    assert line.startswith(f"{list(change)[-1]}: ")

"""Model directories: what is handed from one stage to the next."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from rlhf_jax.data import ByteTokenizer
from rlhf_jax.errors import CheckpointError, InputError
from rlhf_jax.models import LanguageModel, ScalarModel, save_pretrained
from rlhf_jax.registry.directories import load_model, save_model
from rlhf_jax.registry.loaded import require_one_tokenizer, reward_from, value_from
from rlhf_jax.stages import ppo


@pytest.fixture
def saved(tiny, tmp_path):
    start = tiny.model("pretrain")
    save_model(tmp_path / "m", start.model, start.params, start.tokenizer, {"a": 1})
    return start, tmp_path / "m"


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_model_comes_back_as_it_was_saved(saved):
    start, directory = saved
    found = load_model(directory)
    same(start.params, found.params)
    assert found.model.config == start.model.config
    assert found.meta == {"a": 1}
    text = "Who runs the mill?"
    assert found.tokenizer.encode(text) == start.tokenizer.encode(text)


def test_pretrained_params_are_bound_to_no_device_either(saved, tmp_path):
    start, _ = saved
    config = start.model.config
    save_pretrained(tmp_path / "p", config, start.params, ByteTokenizer())
    leaves = jax.tree.leaves(load_model(tmp_path / "p").params)
    assert not any(leaf.committed for leaf in leaves)


def test_saving_again_replaces_the_model(saved):
    start, directory = saved
    other = jax.tree.map(lambda leaf: leaf + 1, start.params)
    save_model(directory, start.model, other, start.tokenizer, {"a": 2})
    found = load_model(directory)
    same(other, found.params)
    assert found.meta == {"a": 2}


def test_a_model_that_was_not_written_to_the_end_is_no_model(saved):
    _, directory = saved
    (directory / "model.json").unlink()
    with pytest.raises(InputError, match="neither model.json nor config.json"):
        load_model(directory)


def test_a_description_that_is_none_is_refused_by_name(saved):
    _, directory = saved
    for text in ("{", "{}", json.dumps({"kind": "x", "config": {}, "meta": {}})):
        (directory / "model.json").write_text(text)
        with pytest.raises(InputError, match="model.json"):
            load_model(directory)


def test_damaged_parameters_are_refused(saved):
    _, directory = saved
    largest = max(
        (p for p in (directory / "params").rglob("*") if p.is_file()),
        key=lambda p: p.stat().st_size,
    )
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(bytes(data))
    with pytest.raises(CheckpointError):
        load_model(directory)


def test_a_reward_model_keeps_the_trunk_and_gets_a_fresh_head(tiny):
    start = tiny.model("pretrain")
    judge = reward_from(start, jax.random.key(0))
    assert isinstance(start.model, LanguageModel)
    assert isinstance(judge.model, ScalarModel)
    same(judge.params["trunk"], start.params["trunk"])
    assert judge.params["head"]["kernel"].shape == (32, 1)
    assert "unembedding" not in judge.params
    value = value_from(judge)
    same(value.params, judge.params)


def test_loaded_params_are_bound_to_no_device(tiny):
    """So that a stage on many devices can start from what one has written."""
    params = tiny.model("pretrain").params
    assert not any(leaf.committed for leaf in jax.tree.leaves(params))


def test_models_of_two_tokenizers_do_not_read_each_other(tiny):
    policy = tiny.model("pretrain")
    reward = reward_from(policy, jax.random.key(0))
    require_one_tokenizer(policy, reward, "the policy and the reward model")
    other = dataclasses.replace(reward, tokenizer=ByteTokenizer())
    with pytest.raises(InputError, match="reward model have different tokenizers"):
        require_one_tokenizer(policy, other, "the policy and the reward model")


def test_ppo_refuses_a_reward_model_of_another_tokenizer(tiny, tmp_path):
    reward = reward_from(tiny.model("pretrain"), jax.random.key(0))
    folder = tmp_path / "reward"
    save_model(folder, reward.model, reward.params, ByteTokenizer(), {})
    config = tiny.config("ppo", reward=str(folder))
    with pytest.raises(InputError, match="ppo.reward: the policy and the reward"):
        ppo.run(config, tmp_path / "ppo", tiny.settings)

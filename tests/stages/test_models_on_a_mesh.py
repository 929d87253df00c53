"""Models are read onto their shards, and what a state has taken over is let go."""

import dataclasses
import gc

import jax
import numpy as np
import pytest

from rlhf_jax.data import ByteTokenizer, Demonstration, Text
from rlhf_jax.evaluation.model_functions import ModelPolicy
from rlhf_jax.experience import Writer, make_distance
from rlhf_jax.models import TrunkConfig, save_pretrained
from rlhf_jax.parallel import make_mesh, mesh_of
from rlhf_jax.registry import (
    light_params,
    load_model,
    load_reward,
    reward_from,
    save_model,
)
from rlhf_jax.stages import ppo, pretrain, sft
from rlhf_jax.stages.likelihood import held_out_score
from rlhf_jax.training import settings
from rlhf_jax.training.session import RunSettings

SHAPE = TrunkConfig(1, 64, 64, 8, 4, dtype="bfloat16")
MESHES = [(1, 8, 1), (2, 2, 2), (1, 1, 8)]
SMALL = 3 * 2**15  # bytes: vectors, and a table of words that the mesh does not divide


@pytest.fixture(autouse=True)
def all_devices(monkeypatch):
    """Other tests of stages take one device alone, whatever settings say."""
    monkeypatch.setattr(settings, "make_mesh", make_mesh)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The same model in both layouts, and a reward model."""
    folder = tmp_path_factory.mktemp("models")
    model = pretrain.fresh_model(SHAPE, ByteTokenizer())
    save_model(folder / "ours", model.model, model.params, model.tokenizer, {})
    save_pretrained(
        folder / "theirs", model.model.config, model.params, model.tokenizer
    )
    reward = reward_from(model, jax.random.key(1))
    save_model(folder / "reward", reward.model, reward.params, model.tokenizer, {})
    return folder


def bytes_of(tree):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def live_bytes(before=()):
    """Bytes of live arrays on the device that has most, but for those of before."""
    gc.collect()
    known, per_device = {id(array) for array in before}, {}
    for array in jax.live_arrays():
        if id(array) in known:
            continue
        for shard in array.addressable_shards:
            held = per_device.get(shard.device, 0) + shard.data.nbytes
            per_device[shard.device] = held
    return max(per_device.values(), default=0)


def share(tree, mesh):
    """What a device has of a tree that is cut over all axes but data."""
    return bytes_of(tree) // (mesh.shape["fsdp"] * mesh.shape["tensor"]) + SMALL


@pytest.mark.parametrize("layout", ["ours", "theirs"])
@pytest.mark.parametrize("sizes", MESHES, ids=str)
def test_a_device_reads_its_part_and_no_more(saved, layout, sizes):
    plain = load_model(saved / layout)
    mesh = make_mesh(*sizes)
    before = jax.live_arrays()
    found = load_model(saved / layout, mesh=mesh)
    assert live_bytes(before) <= share(found.params, mesh)
    assert mesh_of(found.params) == mesh
    for one, other in zip(
        jax.tree.leaves(found.params), jax.tree.leaves(plain.params), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("layout", ["ours", "theirs"])
def test_a_light_model_has_half_the_bytes_and_the_same_numbers(saved, layout):
    options = {"mesh": make_mesh(1, 8, 1), "dtype": "bfloat16"}
    whole = load_model(saved / layout, **options)
    light = load_model(saved / layout, light=True, **options)
    assert bytes_of(light.params) < 0.55 * bytes_of(whole.params)
    tokens = np.arange(48, dtype=np.int32).reshape(8, 6)

    @jax.jit
    def logits(params):
        return whole.model.apply({"params": params}, tokens)

    np.testing.assert_array_equal(logits(whole.params), logits(light.params))
    kept = light_params(whole.model, whole.params)
    again = dataclasses.replace(whole, params=kept)
    for one, other in zip(
        jax.tree.leaves(light.params), jax.tree.leaves(again.params), strict=True
    ):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_a_fresh_model_is_born_on_its_shards_with_the_same_numbers():
    mesh = make_mesh(1, 8, 1)
    plain = pretrain.fresh_model(SHAPE, ByteTokenizer(), 3)
    before = jax.live_arrays()
    found = pretrain.fresh_model(SHAPE, ByteTokenizer(), 3, mesh=mesh)
    assert live_bytes(before) <= share(found.params, mesh)
    for one, other in zip(
        jax.tree.leaves(found.params), jax.tree.leaves(plain.params), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def trained_bytes(train, *makers, **options):
    """(bytes of live arrays of the fullest device after an update, the run)."""
    before = jax.live_arrays()
    rows = iter(train(*(make() for make in makers), **options))
    next(rows)
    return live_bytes(before), rows


def test_training_holds_its_state_and_no_second_model(saved):
    """Parameters and two moments, all cut in eight; the loaded model is let go."""
    mesh = make_mesh(1, 8, 1)
    rows = [Demonstration(id=str(i), prompt="a", response="b") for i in range(16)]
    config = sft.Config(
        select_by="last", batch_size=8, max_prompt=8, max_response=8, epochs=2
    )
    held, _ = trained_bytes(
        sft.train,
        lambda: load_model(saved / "ours", mesh=mesh),
        lambda: rows,
        config=config,
        settings=RunSettings(fetch_every=1),
    )
    params = load_model(saved / "ours").params
    assert held <= 3 * bytes_of(params) // 8 + 3 * SMALL
    assert held > 2.5 * bytes_of(params) // 8  # it measures what it says


def test_ppo_holds_its_states_and_light_frozen_models(saved):
    mesh = make_mesh(1, 8, 1)
    config = ppo.Config(
        ptx_coef=0.0,
        episodes=32,
        batch_size=16,
        minibatch_size=8,
        max_prompt=16,
        max_response=4,
    )
    held, _ = trained_bytes(
        ppo.train,
        lambda: load_model(saved / "ours", mesh=mesh),
        lambda: [f"prompt {i}" for i in range(32)],
        reward=load_reward(saved / "reward", mesh=mesh, light=False),
        config=config,
        settings=RunSettings(fetch_every=1),
    )
    policy = load_model(saved / "ours").params
    value = load_model(saved / "reward").params
    trained = 4 * bytes_of(policy) + 3 * bytes_of(value)  # with the average of one
    light = 0.5 * (bytes_of(policy) + bytes_of(value))
    given = bytes_of(value)  # the reward that this test holds
    assert held <= (trained + light + given) / 8 + 9 * SMALL


def test_a_reward_scores_alike_wherever_it_lies(saved):
    prompts, texts = ["a", "bc", "d"], ["x", "yy", "z"]
    plain = load_reward(saved / "reward", light=False, batch_size=3)
    expected = plain.score(prompts, texts)
    for sizes in MESHES:
        there = load_reward(saved / "reward", mesh=make_mesh(*sizes), batch_size=3)
        np.testing.assert_allclose(there.score(prompts, texts), expected, atol=0.03)


@pytest.mark.parametrize("sizes", [(1, 8, 1), (2, 2, 2)], ids=str)
def test_what_is_asked_of_a_model_is_the_same_wherever_it_lies(saved, sizes):
    """Likelihoods of texts and of completions, greedy text, distances, self-check."""
    texts, ends = ["ab", "c", "defg"] * 3, ["x", "yz", "w"] * 3
    rows = [Text(id="t", text="some text " * 40)]
    plain = load_model(saved / "ours", dtype="float32")
    there = load_model(saved / "ours", dtype="float32", mesh=make_mesh(*sizes))

    def told(model):
        policy = ModelPolicy("p", model, max_new_tokens=4, batch_size=3)
        writer = Writer(model, 4, batch_size=3)
        samples = next(writer.batches(texts, jax.random.key(0))).samples
        moved = jax.tree.map(lambda leaf: 1.01 * leaf, model.params)
        distance = make_distance(model.model)(model.params, moved, samples)
        score = held_out_score(model, rows, 32, batch_size=3)
        numbers = [
            *policy.logprobs(texts, ends),
            np.asarray(distance)[:3],
            score.values,
        ]
        return numbers, policy.generate(texts)

    (numbers, written), (found, again) = told(plain), told(there)
    assert again == written
    for one, other in zip(found, numbers, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)

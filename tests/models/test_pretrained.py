"""Checkpoints on disk: shards, meshes, and everything that can be wrong with them."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from safetensors.numpy import load_file, save_file

from rlhf_jax import parallel
from rlhf_jax.cli import main
from rlhf_jax.errors import InputError
from rlhf_jax.models import load_pretrained, save_pretrained
from rlhf_jax.models.dialects import trunk_config
from rlhf_jax.models.export import hf_config

WEIGHTS = "model.safetensors"


@pytest.fixture
def copied(golden, tmp_path):
    """A small Llama, free to be damaged."""
    folder = tmp_path / "llama"
    shutil.copytree(golden / "llama_lm", folder)
    return folder


def rewrite(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def refused(folder, *words):
    """One InputError that says all the words and names the folder's file."""
    with pytest.raises(InputError) as error:
        load_pretrained(folder)
    text = str(error.value)
    assert all(word in text for word in (str(folder), *words)), text


NORM = "model.layers.1.input_layernorm.weight"
KEY = "model.layers.0.self_attn.k_proj.weight"


def with_nan(tensors):
    tensors[NORM] = tensors[NORM].copy()
    tensors[NORM][3] = np.nan


DAMAGES = {
    "a missing tensor": (lambda t: t.pop(KEY), [KEY, "missing"]),
    "an extra tensor": (
        lambda t: t.update({"model.extra": np.zeros(3, np.float32)}),
        ["model.extra", WEIGHTS, "not part of llama"],
    ),
    "a wrong shape": (
        lambda t: t.update({KEY: t[KEY][:-1]}),
        [KEY, WEIGHTS, "[7, 16]", "[8, 16]"],
    ),
    "NaN": (with_nan, [NORM, WEIGHTS, "NaN"]),
    "an integer tensor": (
        lambda t: t.update({KEY: t[KEY].astype(np.int32)}),
        [KEY, WEIGHTS, "I32"],
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_wrong_tensor_is_named_with_its_file(copied, damage):
    change, words = DAMAGES[damage]
    rewrite(copied, change)
    refused(copied, *words)


def test_a_truncated_file_is_named(copied):
    data = (copied / WEIGHTS).read_bytes()
    (copied / WEIGHTS).write_bytes(data[:-100])
    refused(copied, WEIGHTS, "damaged")


def test_a_header_larger_than_its_file_is_refused(copied):
    data = (copied / WEIGHTS).read_bytes()
    (copied / WEIGHTS).write_bytes((2**60).to_bytes(8, "little") + data[8:])
    refused(copied, WEIGHTS, "header claims")


def test_pickles_are_never_read(copied):
    (copied / WEIGHTS).rename(copied / "pytorch_model.bin")
    refused(copied, "pytorch_model.bin", "may run code")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "mamba"}, ["mamba", "known are gpt2"]),
        ({"hidden_act": "cubic"}, ["hidden_act='cubic'"]),
        ({"hidden_size": None}, ["no 'hidden_size'"]),
        ({"num_key_value_heads": 3}, ["no multiple of num_kv_heads 3"]),
        (
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}},
            ["rope type 'yarn' needs original_max_position_embeddings"],
        ),
        ({"rope_scaling": {"type": "linear"}}, ["'linear', rope_parameters of type"]),
        (
            {"rope_scaling": {"type": "dynamic"}, "rope_parameters": None},
            ["rope type 'dynamic'", "linear, llama3, yarn", "length of each text"],
        ),
        ({"rope_parameters": {"rope_type": "longrope"}}, ["rope type 'longrope'"]),
        ({"model_type": "gemma3"}, ["reads images too", "gemma3_text"]),
        ({"quantization_config": {"bits": 4}}, ["quantization_config", "4 bits"]),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(copied, change, words):
    raw = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(raw | change))
    refused(copied, "config.json", *words)


def test_a_config_that_is_no_json_is_named(copied):
    (copied / "config.json").write_text("{")
    refused(copied, "config.json", "JSON")


def test_neither_a_directory_nor_a_hub_name(tmp_path):
    with pytest.raises(InputError, match="no directory"):
        load_pretrained(tmp_path / "absent")


def test_shards_are_written_and_read_and_a_missing_one_is_named(golden, tmp_path):
    first = load_pretrained(golden / "qwen2_lm")
    save_pretrained(tmp_path, first.config, first.params, shard_bytes=4000)
    shards = sorted(tmp_path.glob("model-*-of-*.safetensors"))
    assert len(shards) > 2
    second = load_pretrained(tmp_path)
    pairs = zip(*map(jax.tree.leaves, (first.params, second.params)), strict=True)
    assert all(bool((a == b).all()) for a, b in pairs)
    shards[1].unlink()
    refused(tmp_path, shards[1].name, "missing")


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama"])
def test_a_sharded_load_puts_the_same_numbers_on_eight_devices(golden, family):
    mesh = parallel.make_mesh(1, 4, 2)
    cut = functools.partial(parallel.shardings, mesh=mesh)
    whole = load_pretrained(golden / f"{family}_lm").params
    spread = load_pretrained(golden / f"{family}_lm", shardings=cut).params
    kernel = spread["trunk"]["layers"]["attention"]["query"]["kernel"]
    assert kernel.sharding.spec == P(None, "fsdp", "tensor")
    for a, b in zip(*map(jax.tree.leaves, (whole, spread)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float16"])
def test_parameters_are_float32_unless_asked(golden, dtype):
    found = load_pretrained(golden / "gpt2_scalar", dtype=dtype)
    assert {str(x.dtype) for x in jax.tree.leaves(found.params)} == {dtype or "float32"}
    assert found.config.dtype == (dtype or "float32")


def test_half_precision_files_survive_a_round_trip(golden, tmp_path):
    found = load_pretrained(golden / "llama_scalar", dtype="bfloat16")
    save_pretrained(tmp_path, found.config, found.params)
    theirs, ours = (load_file(f / WEIGHTS) for f in (golden / "llama_scalar", tmp_path))
    assert theirs.keys() == ours.keys()
    assert all(np.array_equal(theirs[name], ours[name]) for name in theirs)


def test_a_reward_models_bias_survives(golden, tmp_path):
    found = load_pretrained(golden / "gpt2_scalar")
    params = {**found.params, "head": {**found.params["head"], "bias": np.ones(1)}}
    save_pretrained(tmp_path, found.config, params, dtype="float32")
    assert load_pretrained(tmp_path).params["head"]["bias"] == 1.0


def test_nothing_is_saved_of_parameters_that_are_not_finite(golden, tmp_path):
    found = load_pretrained(golden / "gpt2_lm")
    params = jax.tree.map(lambda x: x * np.float32(np.nan), found.params)
    with pytest.raises(InputError, match="NaN"):
        save_pretrained(tmp_path, found.config, params)
    assert not (tmp_path / WEIGHTS).exists()


def test_old_and_new_dialects_read_the_same(golden):
    raw = json.loads((golden / "llama3_lm" / "config.json").read_text())
    rope = raw.pop("rope_parameters")
    theta = rope.pop("rope_theta")
    old = {**raw, "rope_theta": theta, "torch_dtype": raw.pop("dtype")}
    old["rope_scaling"] = {**rope, "type": rope["rope_type"]}
    del old["rope_scaling"]["rope_type"]
    new = json.loads((golden / "llama3_lm" / "config.json").read_text())
    assert trunk_config(old, "old") == trunk_config(new, "new")
    both = hf_config(trunk_config(new, "new"), "llama", "lm")
    assert both["rope_theta"] == theta and both["rope_parameters"]["factor"] == 4.0


def test_inspect_lists_every_leaf(golden, capsys):
    assert main(["inspect", str(golden / "gpt2_scalar"), "--mesh", "1,2,2"]) == 0
    shown = capsys.readouterr().out
    assert "trunk/layers/mlp/up/kernel" in shown and "[2, 16, 64]" in shown
    assert "P(None, 'fsdp', 'tensor')" in shown and "head/bias" in shown
    assert main(["inspect", str(golden / "absent")]) == 2

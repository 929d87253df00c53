"""A model directory that is not as it was saved is refused by whoever loads it."""

import json
import logging
import shutil

import jax
import numpy as np
import pytest

from rlhf_jax.data import ByteTokenizer
from rlhf_jax.errors import RunError
from rlhf_jax.models import LanguageModel, ScalarModel, TrunkConfig, init_params
from rlhf_jax.registry import load_model, load_reader, load_reward
from rlhf_jax.registry.directories import save_model
from rlhf_jax.registry.ensemble import save_ensemble
from rlhf_jax.registry.seal import fingerprint

CONFIG = TrunkConfig(
    vocab_size=258, context_length=32, embed_dim=8, num_layers=1, num_heads=2
)


def params_of(model, seed=0):
    return jax.jit(lambda key: init_params(model, key))(jax.random.key(seed))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two models that differ in their numbers alone, and one with other settings."""
    folder = tmp_path_factory.mktemp("models")
    for name, seed, meta in (("a", 0, {}), ("b", 1, {}), ("c", 2, {"stage": "sft"})):
        model = LanguageModel(CONFIG)
        save_model(folder / name, model, params_of(model, seed), ByteTokenizer(), meta)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    shutil.copytree(saved / "a", tmp_path / "a")
    return tmp_path / "a"


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_every_file_flipped_cut_emptied_or_deleted_is_told(copy):
    rng = np.random.default_rng(0)
    for path in files(copy):
        whole = path.read_bytes()
        if not whole:
            continue
        place, bit = int(rng.integers(len(whole))), int(rng.integers(8))
        flipped = bytearray(whole)
        flipped[place] ^= 1 << bit
        for data in (bytes(flipped), whole[: len(whole) // 2], b"", None):
            path.unlink()
            if data is not None:
                path.write_bytes(data)
            with pytest.raises(RunError):
                load_model(copy)
            path.write_bytes(whole)
    load_model(copy)


def test_no_bit_of_the_description_changes_what_is_read(copy):
    marker = copy / "model.json"
    whole = marker.read_bytes()
    before = load_reader(copy)
    for bit in range(0, 8 * len(whole), 3):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        marker.write_bytes(changed)
        try:
            found = load_reader(copy)
        except RunError:
            continue
        assert (found.model, found.meta) == (before.model, before.meta), bit


@pytest.mark.parametrize("part", ["params", "model.json"])
@pytest.mark.parametrize("other", ["b", "c"])
def test_a_part_of_another_model_is_refused(copy, saved, part, other):
    if part == "params":
        shutil.rmtree(copy / part)
        shutil.copytree(saved / other / part, copy / part)
    else:
        shutil.copyfile(saved / other / part, copy / part)
    with pytest.raises(RunError, match="another model"):
        load_model(copy)


def test_a_tokenizer_with_another_file_is_refused(copy):
    (copy / "tokenizer/added_tokens.json").write_text("{}")
    with pytest.raises(RunError, match="added_tokens.json: not as it was saved"):
        load_reader(copy)


def test_a_model_without_a_seal_is_read_aloud(copy, caplog):
    marker = copy / "model.json"
    text = json.loads(marker.read_text())
    marker.write_text(json.dumps({k: text[k] for k in ("kind", "config", "meta")}))
    with caplog.at_level(logging.WARNING, "rlhf_jax.registry"):
        load_model(copy)
        load_model(copy)
    assert sum("nothing vouches" in line for line in caplog.messages) == 1


def test_a_change_that_is_meant_is_read_without_the_checksum(copy):
    marker = copy / "model.json"
    text = json.loads(marker.read_text())
    text["config"]["dtype"] = "bfloat16"
    marker.write_text(json.dumps(text))
    with pytest.raises(RunError, match='take "checksum" out'):
        load_model(copy)
    del text["checksum"]
    marker.write_text(json.dumps(text))
    assert load_model(copy).model.config.dtype == "bfloat16"


def test_the_members_of_an_ensemble_cannot_be_exchanged_by_a_bit(tmp_path):
    for seed in (0, 1):
        model = ScalarModel(CONFIG)
        save_model(
            tmp_path / f"seed_{seed}",
            model,
            params_of(model, seed),
            ByteTokenizer(),
            {},
        )
    save_ensemble(tmp_path / "both", ["../seed_0", "../seed_1"], {})
    load_reward(tmp_path / "both")
    marker = tmp_path / "both/ensemble.json"
    marker.write_text(marker.read_text().replace("seed_1", "seed_0"))
    with pytest.raises(RunError, match="bytes have changed"):
        load_reward(tmp_path / "both")


def test_a_fingerprint_does_not_depend_on_where_the_leaves_lie():
    mesh = jax.make_mesh((8,), ("data",))
    place = jax.sharding.NamedSharding(mesh, jax.P("data"))
    values = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    trees = [{"w": values, "b": values[:8].astype(dtype)} for dtype in ("f4", "f2")]
    for tree in trees:
        spread = jax.tree.map(lambda leaf: jax.device_put(leaf, place), tree)
        assert fingerprint(spread) == fingerprint(tree)
    assert fingerprint(trees[0]) != fingerprint(trees[1])
    other = values.copy()
    other[3, 1] = np.nextafter(other[3, 1], np.float32(9))
    assert fingerprint({"w": other}) != fingerprint({"w": values})

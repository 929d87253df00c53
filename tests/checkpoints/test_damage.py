"""Damage of every kind is found before a leaf is used, and named."""

import json
import logging
import os

import jax.numpy as jnp
import numpy as np
import pytest
import states

from rlhf_jax.checkpoints import CheckpointStore
from rlhf_jax.errors import CheckpointError

STATE = states.small()


@pytest.fixture(scope="module")
def three_steps(tmp_path_factory):
    store = CheckpointStore(tmp_path_factory.mktemp("whole"))
    for step in (1, 2, 3):
        store.save(step, states.small(step), {"step": step})
    store.close()
    return store.directory


@pytest.fixture
def directory(three_steps, tmp_path):
    return states.copied(three_steps, tmp_path / "checkpoints")


def falls_back_to(directory, step, caplog):
    """The step restored; checks that it was said aloud, in one line."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        state, meta = CheckpointStore(directory).restore(STATE)
    assert meta["step"] == step == int(state["step"])
    lines = [record.getMessage() for record in caplog.records]
    assert all("\n" not in line for line in lines)
    return lines


def test_a_truncated_file_of_any_kind_falls_back_aloud(directory, caplog):
    rng = np.random.default_rng(0)
    for path in states.files(directory / "3"):
        data = path.read_bytes()
        path.write_bytes(data[: rng.integers(0, len(data))])
        store = CheckpointStore(directory)
        with pytest.raises(CheckpointError, match=path.name):
            store.restore(STATE, step=3)
        assert store.latest_step() == 2
        path.write_bytes(data)
    path = states.files(directory / "3")[-1]
    path.write_bytes(path.read_bytes()[:-1])
    (line,) = falls_back_to(directory, 2, caplog)
    assert "step 3 is not usable, step 2 is used instead" in line
    assert str(path) in line


def test_each_of_200_flipped_bits_is_found(directory):
    """Positions over all files by their sizes, and one in each at least."""
    rng = np.random.default_rng(1)
    paths = states.files(directory / "3")
    sizes = np.array([path.stat().st_size for path in paths])
    extra = rng.choice(len(paths), 200 - len(paths), p=sizes / sizes.sum())
    for index in [*range(len(paths)), *extra]:
        path, data = paths[index], bytearray(paths[index].read_bytes())
        position = rng.integers(0, len(data))
        data[position] ^= 1 << rng.integers(0, 8)
        whole = path.read_bytes()
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=path.name):
            CheckpointStore(directory).restore(STATE, step=3)
        path.write_bytes(whole)
    CheckpointStore(directory).restore(STATE, step=3)


def test_two_damaged_steps_fall_back_twice(directory, caplog):
    for step, path in ((3, "MANIFEST.json"), (2, "_METADATA")):
        file = directory / str(step) / path
        file.write_bytes(b"x" + file.read_bytes()[1:])
    lines = falls_back_to(directory, 1, caplog)
    assert ["step 3" in lines[0], "step 2" in lines[1]] == [True, True]


def test_training_goes_on_after_a_fallback_and_replaces_the_damaged_step(directory):
    flip(directory / "3" / "_METADATA")
    store = CheckpointStore(directory)
    _, meta = store.restore(STATE)
    assert meta["step"] == 2 and store.latest_step() == 2
    store.save(3, states.small(7), {"step": 3})
    store.close()
    state, _ = CheckpointStore(directory).restore(STATE)
    assert state["step"] == 7
    assert sorted(path.name for path in directory.iterdir()) == ["1", "2", "3"]


def test_only_unusable_steps_are_refused_with_each_reason(directory, caplog):
    for step in (1, 2, 3):
        flip(directory / str(step) / "_METADATA")
    store = CheckpointStore(directory)
    assert store.latest_step() == 3  # sizes are right; the bytes are yet unread
    with pytest.raises(CheckpointError) as caught:
        store.restore(STATE)
    message = str(caught.value)
    assert caught.value.exit_code == 4
    for step in (1, 2, 3):
        assert f"step {step}: " in message
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        store.latest_step()
    with caplog.at_level(logging.WARNING):
        fresh = CheckpointStore(directory, allow_fresh=True)
        assert fresh.latest_step() is None
    assert "a fresh start" in caplog.text
    fresh.save(1, states.small(4))
    assert CheckpointStore(directory).latest_step() is not None
    fresh.close()


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "name",
    [
        "9",
        "9.orbax-checkpoint-tmp",
        "9.writing",
        "9.writing.orbax-checkpoint-tmp-123",
        "9.deleted",
        "best",
        "009",
        "-9",
        "９",
        "tmp",
    ],
)
@pytest.mark.parametrize("content", ["nothing", "a file", "a whole step"])
def test_a_foreign_directory_is_never_the_latest(directory, name, content):
    if content == "a whole step":
        states.copied(directory / "3", directory / name)
    else:
        (directory / name).mkdir()
    if content == "a file":
        (directory / name / "_CHECKPOINT_METADATA").write_text("{}")
    store = CheckpointStore(directory)
    assert store.latest_step() == 3 and store.steps() == [1, 2, 3]
    assert store.restore(STATE)[1]["step"] == 3


def test_a_plain_file_named_like_a_step_is_not_one(directory):
    (directory / "9").write_text("9")
    assert CheckpointStore(directory).restore(STATE)[1]["step"] == 3


def test_a_foreign_directory_in_the_way_is_moved_not_deleted(directory):
    (directory / "4").mkdir()
    (directory / "4" / "thesis.txt").write_text("precious")
    store = CheckpointStore(directory)
    store.save(4, states.small(4))
    store.close()
    assert store.latest_step() == 4
    (moved,) = directory.glob("4.foreign-*/thesis.txt")
    assert moved.read_text() == "precious"


def test_a_directory_with_foreign_steps_only_is_refused(tmp_path):
    (tmp_path / "4").mkdir()
    with pytest.raises(CheckpointError, match="step 4: .*MANIFEST.json: absent"):
        CheckpointStore(tmp_path).latest_step()


def save_again(store):
    store.save(4, states.small(4))
    return {"4"}


def tidy(store):
    store.tidy()
    return set()


@pytest.mark.parametrize("act", [save_again, tidy])
def test_leftovers_of_killed_saves_are_removed_by_whoever_saves(directory, act):
    for name in ("4.writing", "5.writing.orbax-checkpoint-tmp", "0.deleted"):
        (directory / name).mkdir()
        (directory / name / "junk").write_bytes(b"0" * 1000)
    (directory / "notes.writing").mkdir()  # not a name of ours
    store = CheckpointStore(directory, keep_last=9)
    assert store.latest_step() == 3 and (directory / "4.writing").is_dir()
    added = act(store)
    store.close()
    left = {path.name for path in directory.iterdir()}
    assert left == {"1", "2", "3", "notes.writing"} | added


def test_tidying_no_directory_makes_none(tmp_path):
    CheckpointStore(tmp_path / "none").tidy()
    assert not (tmp_path / "none").exists()


def test_a_kill_between_the_renames_of_a_replacement_loses_nothing(directory):
    os.rename(directory / "3", directory / "3.replaced")
    store = CheckpointStore(directory, keep_last=9)
    assert store.latest_step() == 2
    store.tidy()
    assert store.latest_step() == 3
    os.rename(directory / "3", directory / "3.replaced")
    store = CheckpointStore(directory, keep_last=9)
    store.save(4, states.small(4))
    store.close()
    assert store.steps() == [1, 2, 3, 4]


def test_a_linked_step_or_file_is_refused(directory, tmp_path):
    outside = states.copied(directory / "3", tmp_path / "outside")
    os.symlink(outside, directory / "9")
    assert CheckpointStore(directory).latest_step() == 3
    file = directory / "3" / "_METADATA"
    file.unlink()
    os.symlink(outside / "_METADATA", file)
    store = CheckpointStore(directory)
    assert store.latest_step() == 2
    with pytest.raises(CheckpointError, match="_METADATA: a link"):
        store.restore(STATE, step=3)


def test_an_additional_or_missing_file_is_damage(directory):
    (directory / "3" / "d" / "new").write_text("?")
    with pytest.raises(CheckpointError, match="d/new: not in the manifest"):
        CheckpointStore(directory).restore(STATE, step=3)
    (directory / "3" / "d" / "new").unlink()
    (directory / "3" / "_METADATA").unlink()
    with pytest.raises(CheckpointError, match="_METADATA: absent"):
        CheckpointStore(directory).restore(STATE, step=3)


def rewritten(directory, **changes):
    """A manifest with other contents and a right checksum, as a liar would write."""
    from rlhf_jax.checkpoints.manifest import _encoded, read_manifest

    manifest = read_manifest(directory)
    for name, value in changes.items():
        object.__setattr__(manifest, name, value)
    (directory / "MANIFEST.json").write_bytes(_encoded(manifest))
    return manifest


@pytest.mark.parametrize(
    "name", ["../../secret", "/etc/hostname", "a/../../x", "..", "a\0b", ""]
)
def test_a_manifest_cannot_name_files_outside_its_directory(directory, name):
    (directory.parent / "secret").write_text("x")
    step = directory / "3"
    whole = rewritten(step)
    rewritten(step, files={**whole.files, name: (1, "0" * 32)})
    with pytest.raises(CheckpointError, match="absent"):
        CheckpointStore(directory).restore(STATE, step=3)


def test_a_step_under_another_number_is_refused(directory):
    os.rename(directory / "3", directory / "8")
    store = CheckpointStore(directory)
    assert store.latest_step() == 2
    with pytest.raises(CheckpointError, match="holds step 3, not 8"):
        store.restore(STATE, step=8)


def test_a_manifest_that_claims_more_than_the_memory_is_refused(directory):
    rewritten(directory / "3", leaves={"params/w": "float32[1000000000000]"})
    with pytest.raises(CheckpointError, match="4e\\+03 GB of arrays, more than"):
        CheckpointStore(directory).restore_params(step=3)


def test_arrays_that_contradict_their_manifest_are_refused(directory):
    """All hashes are right, but the table of leaves is a lie."""
    rewritten(directory / "3", leaves={"w": "float32[4,8]", "x": "int32[]"})
    with pytest.raises(CheckpointError, match=str(directory / "3")):
        CheckpointStore(directory).restore(
            {"w": STATE["w"], "x": STATE["step"]}, step=3
        )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[1]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"checksum": "0", "format": 1}',
        json.dumps({"checksum": "0", "format": 1, "files": {"a": 1}}).encode(),
    ],
)
def test_nonsense_for_a_manifest_is_damage(directory, text):
    (directory / "3" / "MANIFEST.json").write_bytes(text)
    with pytest.raises(CheckpointError, match="MANIFEST.json: damaged"):
        CheckpointStore(directory).restore(STATE, step=3)


def test_a_manifest_of_a_later_format_says_so(directory, monkeypatch):
    from rlhf_jax.checkpoints import manifest

    with monkeypatch.context() as patch:
        patch.setattr(manifest, "FORMAT", 1)
        whole = manifest.read_manifest(directory / "3")
        patch.setattr(manifest, "FORMAT", 99)
        (directory / "3" / "MANIFEST.json").write_bytes(manifest._encoded(whole))
    with pytest.raises(CheckpointError, match="format that this version cannot read"):
        CheckpointStore(directory).restore(STATE, step=3)


def test_partial_restore_verifies_and_falls_back_too(tmp_path, caplog):
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        store.save(step, {"params": {"w": jnp.full(3, float(step))}})
    store.close()
    flip(tmp_path / "2" / "_METADATA")
    got = CheckpointStore(tmp_path).restore_params()
    assert (got["w"] == 1).all()
    assert "step 2 is not usable, step 1 is used instead" in caplog.text

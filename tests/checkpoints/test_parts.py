"""Hashes, retention and tables of leaves, each by itself."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.checkpoints import (
    checksum,
    differences,
    flat,
    kept_steps,
    leaf_specs,
    state_hash,
    tree_hash,
)
from rlhf_jax.checkpoints.leaves import nested, non_finite
from rlhf_jax.errors import InputError

STEPS = st.sets(st.integers(0, 60), min_size=1, max_size=20)


@given(STEPS, st.integers(1, 5), st.one_of(st.none(), st.integers(1, 10)))
def test_the_newest_is_always_kept_and_nothing_is_invented(steps, last, every):
    kept = kept_steps(steps, keep_last=last, keep_every=every)
    assert max(steps) in kept and kept <= steps
    for step in steps - kept:
        assert sum(later > step for later in steps) >= last
        assert every is None or step == 0 or step % every


@given(
    st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=4).map(
        lambda parts: "/".join(parts)
    )
)
def test_nested_is_the_inverse_of_paths(name):
    assert leaf_specs(nested({name: np.zeros(2)})) == {name: "float64[2]"}


def test_a_state_hash_sees_every_bit_dtype_shape_and_name():
    base = {"a": np.zeros((2, 3), np.float32), "b": jax.random.key(0)}
    others = [
        {**base, "a": np.full((2, 3), -0.0, np.float32)},
        {**base, "a": np.zeros((3, 2), np.float32)},
        {**base, "a": np.zeros((2, 3), np.int32)},
        {**base, "b": jax.random.key(1)},
        {"a": base["a"], "c": base["b"]},
        {**base, "d": np.zeros(0)},
    ]
    hashes = [state_hash(tree) for tree in (base, *others)]
    assert len(set(hashes)) == len(hashes)
    assert state_hash({**base, "a": jnp.zeros((2, 3))}) == hashes[0]
    assert state_hash({"b": base["b"], "a": base["a"]}) == hashes[0]


def test_a_tree_hash_sees_names_and_contents_and_nothing_else(tmp_path):
    def made(name, files):
        for path, content in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(content)
        return tree_hash(tmp_path / name)

    base = made("a", {"x": "1", "d/y": "2"})
    assert made("b", {"d/y": "2", "x": "1", ".DS_Store": "!"}) == base
    os.utime(tmp_path / "a" / "x", (0, 0))
    assert tree_hash(tmp_path / "a") == base
    assert made("c", {"x": "1", "d/z": "2"}) != base
    assert made("d", {"x": "2", "d/y": "1"}) != base
    assert len({tree_hash(tmp_path / "a" / "x"), tree_hash(tmp_path / "d" / "x")}) == 2


def test_a_tree_hash_takes_linked_files_and_refuses_linked_directories(tmp_path):
    for name in ("a", "b", "blobs"):
        (tmp_path / name).mkdir()
    (tmp_path / "blobs" / "1").write_text("weights")
    (tmp_path / "a" / "model").write_text("weights")
    os.symlink(tmp_path / "blobs" / "1", tmp_path / "b" / "model")
    assert tree_hash(tmp_path / "a") == tree_hash(tmp_path / "b")
    with pytest.raises(OSError):
        checksum(tmp_path / "b" / "model")
    os.symlink(tmp_path / "b", tmp_path / "b" / "again")
    with pytest.raises(InputError, match="link or device"):
        tree_hash(tmp_path / "b")
    with pytest.raises(InputError, match="no file or directory"):
        tree_hash(tmp_path / "absent")


def test_differences_name_each_key_once():
    old, new = flat({"a": {"b": 1, "c": {}}, "d": 2}), flat({"a": {"b": 1}, "d": 3})
    assert differences(old, new) == ["a.c: {} -> absent", "d: 2 -> 3"]
    assert differences(old, old) == []


def test_non_finite_leaves_are_found_wherever_they_live():
    leaves = {
        "device": jnp.array([1.0, jnp.nan]),
        "half": jnp.array([jnp.inf], jnp.bfloat16),
        "tiny": jnp.array([jnp.nan], jnp.float8_e4m3fn),
        "host": np.array([-np.inf]),
        "number": float("nan"),
        "complex": np.array([1j * np.inf]),
        "other device": jax.device_put(jnp.array(jnp.nan), jax.devices()[3]),
        "fine": jnp.ones(3),
        "int": jnp.arange(3),
        "key": jax.random.key(0),
        "empty": jnp.zeros((0,)),
        "flag": True,
    }
    assert non_finite(leaves) == list(leaves)[:7]

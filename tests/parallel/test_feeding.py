"""Rows reach the devices that train them."""

import jax
import numpy as np
import pytest

from rlhf_jax.errors import InputError
from rlhf_jax.parallel import (
    local_rows,
    make_mesh,
    put_batch,
    replicate,
    split_rows,
    unreplicate,
)

BATCH = {"a": {"tokens": np.arange(16).reshape(8, 2)}, "coef": np.float32(0.5)}


@pytest.mark.parametrize("per_host", [False, True])
def test_a_batch_is_cut_and_whole(per_host):
    mesh = make_mesh(2, 2, 2)
    batch = put_batch(BATCH, mesh, per_host=per_host)
    tokens = batch["a"]["tokens"]
    assert np.array_equal(tokens, BATCH["a"]["tokens"])
    assert {shard.data.shape for shard in tokens.addressable_shards} == {(2, 2)}
    assert batch["coef"].sharding.is_fully_replicated


def test_device_arrays_pass_through():
    batch = put_batch(BATCH, make_mesh())
    again = put_batch(batch, make_mesh())
    assert again["a"]["tokens"] is batch["a"]["tokens"]


def test_rows_that_cannot_be_cut_are_named():
    with pytest.raises(InputError, match="a/tokens: 6 rows .* multiple of 8"):
        put_batch({"a": {"tokens": np.zeros((6, 2))}}, make_mesh())


def test_one_process_has_all_rows():
    assert local_rows(16, make_mesh(2, 2, 2)) == slice(0, 16)
    with pytest.raises(InputError, match="multiple of 4"):
        local_rows(6, make_mesh(2, 2, 2))


def test_replicate_and_split_have_a_device_axis():
    tree = {"w": np.arange(3.0), "step": np.int32(4)}
    copies = replicate(tree)
    assert copies["w"].shape == (8, 3) and copies["step"].shape == (8,)
    back = unreplicate(copies)
    assert np.array_equal(back["w"], tree["w"]) and int(back["step"]) == 4
    rows = split_rows({"x": np.arange(16)})["x"]
    assert rows.shape == (8, 2) and rows[1].tolist() == [2, 3]


def test_replicated_keys_stay_keys():
    copies = replicate({"rng": jax.random.key(3)})
    assert jax.random.uniform(unreplicate(copies)["rng"]).shape == ()

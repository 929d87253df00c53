"""Rules: the first match decides, the whole state follows, every value stays."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from rlhf_jax.errors import InputError
from rlhf_jax.parallel import batch_sharding, init_sharded, make_mesh, shardings

RULES = (
    (r"kernel$", P("fsdp", "tensor")),
    (r"", P()),
)


def specs(tree, mesh, rules=RULES):
    return jax.tree.map(lambda s: s.spec, shardings(tree, mesh, rules))


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def test_the_first_rule_that_matches_decides():
    rules = ((r"a/kernel", P("data")), *RULES)
    tree = {"a": {"kernel": shape(8, 8)}, "b": {"kernel": shape(8, 8), "c": shape(8)}}
    got = specs(tree, make_mesh(2, 2, 2), rules)
    assert got["a"]["kernel"] == P("data")
    assert got["b"] == {"kernel": P("fsdp", "tensor"), "c": P()}


def test_the_moments_follow_their_parameter():
    params = {"kernel": jnp.zeros((8, 8)), "bias": jnp.zeros(8)}
    state = {"params": params, "opt_state": optax.adamw(1e-3).init(params)}
    got = specs(state, make_mesh(2, 2, 2))
    adam = got["opt_state"][0]
    assert adam.mu["kernel"] == adam.nu["kernel"] == P("fsdp", "tensor")
    assert adam.count == adam.mu["bias"] == P()


def test_an_axis_that_does_not_divide_is_left_out():
    mesh = make_mesh(1, 4, 2)
    assert specs({"kernel": shape(50257, 8)}, mesh)["kernel"] == P(None, "tensor")
    assert specs({"kernel": shape(8, 7)}, mesh)["kernel"] == P("fsdp", None)


def test_a_scalar_under_a_matrix_rule_is_copied():
    assert specs({"kernel": shape()}, make_mesh())["kernel"] == P()


def test_a_leaf_without_a_rule_is_refused():
    with pytest.raises(InputError, match="bias"):
        shardings({"bias": shape(8)}, make_mesh(), RULES[:1])


def test_a_rule_with_an_unknown_axis_is_refused():
    with pytest.raises(InputError, match="model"):
        shardings({"kernel": shape(8)}, make_mesh(), ((r"", P("model")),))


def test_the_rows_of_a_batch_are_cut_over_data_and_fsdp():
    mesh = make_mesh(2, 2, 2)
    assert batch_sharding(mesh, 2).spec == P(("data", "fsdp"))
    assert batch_sharding(mesh, 0).spec == P()


def test_a_sharded_init_gives_the_values_of_a_plain_one():
    def init(key):
        return {"kernel": jax.random.normal(key, (8, 16)), "bias": jnp.ones(3)}

    want = jax.jit(init)(jax.random.key(1))
    for sizes in ((8, 1, 1), (1, 8, 1), (2, 2, 2)):
        got = init_sharded(init, jax.random.key(1), mesh=make_mesh(*sizes), rules=RULES)
        assert np.array_equal(got["kernel"], want["kernel"])
        shard = got["kernel"].addressable_shards[0].data
        assert shard.size == 8 * 16 // (sizes[1] * sizes[2])

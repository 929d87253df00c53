"""Reading a compiled program: products and collectives, with loops multiplied out."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding

from rlhf_jax.errors import InputError
from rlhf_jax.parallel import make_mesh, topology_devices
from rlhf_jax.parallel.compiled_text import collectives, product_flops


def test_loops_count_as_often_as_they_run():
    mesh = make_mesh(8)

    def step(x, _):
        # rows over devices, summed: one all-reduce per turn
        return jnp.tanh(x.T @ x), x.sum()

    def program(x):
        x, sums = jax.lax.scan(step, x, None, length=5)
        return x @ x, sums

    x = jax.ShapeDtypeStruct(
        (16, 16), jnp.float32, sharding=NamedSharding(mesh, jax.P("data"))
    )
    text = jax.jit(program).lower(x).compile().as_text()
    whole = jax.jit(program).lower(jnp.zeros((16, 16))).compile().as_text()
    assert product_flops(whole) == 2 * 16**3 * 6
    looped = [c for c in collectives(text) if c.depth]
    assert looped and {c.times for c in looped} == {5}
    assert not collectives(whole)


def test_collectives_tell_their_size():
    mesh = make_mesh(8)
    rows = NamedSharding(mesh, jax.P("data"))
    whole = NamedSharding(mesh, jax.P())
    gather = jax.jit(lambda x: x, in_shardings=rows, out_shardings=whole)
    text = gather.lower(jnp.zeros((16, 4), jnp.float32)).compile().as_text()
    (found,) = collectives(text)
    assert found.kind == "all-gather" and found.shapes == ((16, 4),)
    assert (found.bytes, found.times, found.depth) == (256, 1, 0)


@pytest.mark.parametrize("name", ["v5e", "v9:4x4", "v5e:big"])
def test_an_unknown_topology_says_what_is_expected(name):
    with pytest.raises(InputError, match="expected a generation of v4, v5e"):
        topology_devices(name)

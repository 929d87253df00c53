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


def test_a_kernel_whose_text_has_lines_does_not_end_its_computation():
    """Splash attention's does; what stood behind it was not counted."""
    text = """\
ENTRY %main (p: f32[8,4]) -> f32[8,4] {
  %kernel = f32[8,4]{1,0:T(8,128)} custom-call(%p), backend_config={"config":{
"block":128,
}}, metadata={op_name="splash"}
  %sum = f32[8,4]{1,0} all-reduce(%kernel), replica_groups=[1,2]<=[2], to_apply=%add
}
"""
    (found,) = collectives(text)
    assert found.kind == "all-reduce" and found.bytes == 128


def test_a_loop_that_counts_in_twos_has_its_turns():
    """A TPU overlaps a product with its gather in such loops."""
    text = """\
%cond (p: (u32[], f32[4])) -> pred[] {
  %bound = u32[]{:T(128)} constant(8), metadata={op_name="x"}
  %i = u32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %less = pred[] compare(%i, %bound), direction=LT
}

%body (p: (u32[], f32[4])) -> (u32[], f32[4]) {
  %two = u32[]{:T(128)} constant(2)
  %before = u32[]{:T(128)} get-tuple-element(%p), index=0
  %i = u32[]{:T(128)} add(%before, %two), metadata={op_name="x"}
  %next = f32[4]{0} collective-permute(%x), source_target_pairs={{0,1},{1,0}}
  ROOT %result = (u32[], f32[4]) tuple(%i, %next)
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %loop = (u32[], f32[4]) while(%t), condition=%cond, body=%body
}
"""
    (found,) = collectives(text)
    assert (found.times, found.depth) == (4, 1)

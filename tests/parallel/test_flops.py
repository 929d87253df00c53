"""Products of a program before it is compiled."""

import jax
import jax.numpy as jnp

from rlhf_jax.parallel import make_mesh
from rlhf_jax.parallel.compiled_text import Collective, axes_of
from rlhf_jax.parallel.flops import traced_flops

A, B = jnp.ones((8, 16)), jnp.ones((16, 16))
ONE = 2 * 8 * 16 * 16


def counted(function, *args, **options):
    return traced_flops(jax.jit(function).trace(*args).jaxpr, **options)


def test_a_product_and_its_backward_products():
    assert counted(jnp.dot, A, B) == ONE
    assert counted(jax.grad(lambda a, b: (a @ b).sum(), (0, 1)), A, B) >= 2 * ONE


def test_what_a_scan_repeats_and_what_a_checkpoint_computes_again():
    def body(a, b):
        return jnp.tanh(a @ b), None

    def loss(a, bs, step=body):
        return jax.lax.scan(step, a, bs)[0].sum()

    bs = jnp.stack([B] * 5)
    assert counted(loss, A, bs) == 5 * ONE
    plain = counted(jax.grad(loss, (0, 1)), A, bs)
    again = counted(
        jax.grad(lambda a, bs: loss(a, bs, jax.checkpoint(body)), (0, 1)), A, bs
    )
    assert plain == 15 * ONE and again == 20 * ONE


def test_a_loop_takes_its_turns_and_several_share_them():
    def loop(a, b):
        return jax.lax.while_loop(lambda a: a.sum() < 0, lambda a: a @ b, a)

    assert counted(loop, A, B, turns=7) == 7 * ONE
    assert counted(lambda a, b: loop(loop(a, b), b), A, B, turns=8) == 8 * ONE


def test_of_branches_the_dearest_and_of_devices_all():
    def either(a, b):
        return jax.lax.cond(a.sum() > 0, lambda: a @ b, lambda: a @ b @ b)

    assert counted(either, A, B) == 2 * ONE
    mesh = make_mesh(8, 1, 1)
    rows = jax.shard_map(
        jnp.dot, mesh=mesh, in_specs=(jax.P("data"), jax.P()), out_specs=jax.P("data")
    )
    assert counted(rows, A, B) == ONE


def along(line):
    mesh = {"data": 2, "fsdp": 4, "tensor": 2}
    return axes_of(Collective("all-gather", (), 0, 1, 0, line), mesh)


def test_the_axes_of_a_collective_in_every_way_of_telling_groups():
    assert along("replica_groups={{0,1},{2,3}}") == ("tensor",)
    assert along("replica_groups={{0,2,4,6},{1,3,5,7}}") == ("fsdp",)
    assert along("replica_groups=[8,2]<=[16]") == ("tensor",)
    assert along("replica_groups=[8,2]<=[2,8]T(1,0)") == ("data",)
    assert along("source_target_pairs={{0,2},{2,4}}") == ("fsdp",)
    told = "replica_groups=mesh['axis_0'=2,'axis_1'=4,'axis_2'=2] {'axis_0','axis_1'}"
    assert along(told) == ("data", "fsdp")
    moved = "replica_groups=mesh['a'=8,'b'=2], device_ids=([2,8]T(1,0)) {'b'}"
    assert along(moved) == ("data",)
    assert along("no groups") == ()

"""The update: sums that add up however the work is split, and its guard."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy_lm as toy
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

from rlhf_jax.parallel import (
    compile_update,
    make_mesh,
    pmap_update,
    replicate,
    shardings,
    split_rows,
    unreplicate,
)
from rlhf_jax.training import (
    OptimizerConfig,
    init_state,
    make_optimizer,
    make_update,
)
from rlhf_jax.training.gradients import split_microbatches, with_weights

MESHES = [(1, 1, 1), (8, 1, 1), (1, 8, 1), (1, 1, 8), (2, 2, 2)]


def mesh_of(shape):
    return make_mesh(*shape, devices=jax.devices()[: int(np.prod(shape))])


@functools.cache
def reference(steps=5, **kwargs):
    """Losses and state of the plain jitted update on one device."""
    update = jax.jit(toy.make(**kwargs))
    state, losses = toy.init(), []
    for step in range(steps):
        state, metrics = update(state, toy.batch(step))
        losses.append(float(metrics["loss"]))
    return losses, jax.device_get(state.params)


@pytest.mark.parametrize("shape", MESHES, ids=str)
def test_the_loss_curve_is_the_same_on_every_mesh(shape):
    update = compile_update(toy.make(), mesh_of(shape))
    state, losses = toy.init(), []
    for step in range(5):
        state, metrics = update(state, toy.batch(step))
        losses.append(float(metrics["loss"]))
    want, params = reference()
    np.testing.assert_allclose(losses, want, rtol=2e-6)
    assert toy.largest_difference(params, state.params) < 5e-6
    assert update.compilations == 1
    places = shardings(state, update.mesh)
    same = jax.tree.map(
        lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), state, places
    )
    assert all(jax.tree.leaves(same)), "a leaf left its place"


def test_moments_live_where_their_parameter_lives():
    state = compile_update(toy.make(), mesh_of((1, 8, 1))).place(toy.init())
    kernel = state.params["trunk"]["layers"]["mlp"]["up"]["kernel"]
    moment = state.opt_state[0].mu["trunk"]["layers"]["mlp"]["up"]["kernel"]
    assert kernel.sharding.spec == moment.sharding.spec == P(None, "fsdp", "tensor")
    assert kernel.addressable_shards[0].data.size == kernel.size // 8


def test_a_second_batch_length_compiles_a_second_program_and_no_more():
    update = compile_update(toy.make(), mesh_of((8, 1, 1)))
    state = toy.init()
    for step in range(2):
        for rows in (16, 8):
            state, _ = update(state, toy.batch(step, rows=rows))
    assert update.compilations == 2


def test_pmap_is_jit():
    update = pmap_update(toy.make())
    state, losses = replicate(toy.init()), []
    for step in range(5):
        state, metrics = update(state, split_rows(toy.batch(step)))
        losses.append(float(unreplicate(metrics)["loss"]))
    want, params = reference()
    np.testing.assert_allclose(losses, want, rtol=2e-6)
    assert toy.largest_difference(params, unreplicate(state).params) < 5e-6


def test_shard_map_is_jit():
    mesh = mesh_of((8, 1, 1))
    mapped = jax.shard_map(
        functools.partial(toy.make(), axis_name="data"),
        mesh=mesh,
        in_specs=(P(), P("data")),
        out_specs=P(),
        check_vma=False,
    )
    state, losses = toy.init(), []
    update = jax.jit(mapped)
    for step in range(5):
        state, metrics = update(state, toy.batch(step))
        losses.append(float(metrics["loss"]))
    want, params = reference()
    np.testing.assert_allclose(losses, want, rtol=2e-6)
    assert toy.largest_difference(params, state.params) < 5e-6


@pytest.mark.parametrize("microbatches", [2, 4, 16])
def test_microbatches_do_not_change_the_step(microbatches):
    losses, params = reference(microbatches=microbatches)
    want, want_params = reference()
    np.testing.assert_allclose(losses, want, rtol=2e-6)
    assert toy.largest_difference(params, want_params) < 5e-6


def test_microbatches_on_a_mesh_gather_no_rows():
    """A contiguous split would make every device compute every row."""
    update = compile_update(toy.make(microbatches=2), mesh_of((8, 1, 1)))
    update(toy.init(), toy.batch(0))
    (program,) = update.programs.values()
    assert "all-gather" not in program.as_text()
    assert "all-reduce" in program.as_text()


@given(
    rows=st.sampled_from([1, 3]), count=st.sampled_from([1, 4]), seed=st.integers(0, 99)
)
def test_any_split_of_the_weights_adds_to_one(rows, count, seed):
    mask = np.random.default_rng(seed).random((rows * count, 3)) < 0.3
    batch = with_weights({"rows": {"mask": mask}, "scale": np.float32(2.0)})
    parts = split_microbatches(batch["rows"], count)["weights"]
    assert parts.shape == (count, rows, 3)
    assert float(parts.sum()) == pytest.approx(1.0 if mask.any() else 0.0, abs=1e-6)


def test_an_empty_mask_changes_nothing_but_the_schedule():
    tx = optax.sgd(0.1)
    state, empty = toy.init(tx=tx), toy.batch(0)
    empty["mask"] = np.zeros_like(empty["mask"])
    after, metrics = jax.jit(toy.make(tx))(state, empty)
    assert float(metrics["loss"]) == 0.0 and float(metrics["grad_norm"]) == 0.0
    assert toy.bits(after.params) == toy.bits(state.params)


def test_rank_zero_entries_reach_every_microbatch():
    def loss_fn(params, batch, rng):
        return batch["factor"] * (batch["weights"] * params["w"]).sum(), {}

    tx = optax.sgd(1.0)
    state = init_state({"w": jnp.float32(1.0)}, tx, jax.random.key(0))
    batch = {"mask": np.ones(4, bool), "factor": np.float32(3.0)}
    after, _ = jax.jit(make_update(loss_fn, tx, microbatches=2))(state, batch)
    assert float(after.params["w"]) == pytest.approx(-2.0)


# ------------------------------------------------------------------ several terms


def two_terms():
    def first(params, batch, rng):
        loss, metrics = toy.loss_fn(params, batch["rollout"], rng)
        return loss, {"first_tokens": metrics["tokens"]}

    def second(params, batch, rng):
        loss, _ = toy.loss_fn(params, batch["pretrain"], rng)
        return 3.0 * loss, {}

    def both(params, batch, rng):
        return first(params, batch, rng)[0] + second(params, batch, rng)[0], {}

    return {"rollout": first, "pretrain": second}, both


@pytest.mark.parametrize("microbatches", [1, 2])
def test_terms_add_and_tell_how_they_relate(microbatches):
    terms, both = two_terms()
    tx = optax.sgd(0.1)
    batch = {"rollout": toy.batch(0), "pretrain": toy.batch(1, rows=8)}
    kwargs = {"microbatches": microbatches}
    parted, metrics = jax.jit(make_update(terms, tx, **kwargs))(toy.init(tx=tx), batch)
    joint, want = jax.jit(make_update(both, tx))(toy.init(tx=tx), batch)
    assert toy.largest_difference(parted.params, joint.params) < 1e-6
    for name in ("loss", "grad_norm"):
        assert float(metrics[name]) == pytest.approx(float(want[name]), rel=1e-5)
    a, b = (float(metrics[f"grad_norm/{t}"]) for t in terms)
    cosine = float(metrics["grad_cosine/rollout_pretrain"])
    total = float(metrics["grad_norm"]) ** 2
    assert total == pytest.approx(a * a + b * b + 2 * a * b * cosine, rel=1e-4)
    parts = float(metrics["loss/rollout"] + metrics["loss/pretrain"])
    assert parts == pytest.approx(float(metrics["loss"]), rel=1e-6)
    assert int(metrics["first_tokens"]) == int(batch["rollout"]["mask"].sum())


@pytest.mark.parametrize("microbatches", [1, 2])
def test_terms_that_are_added_first_give_the_same_step(microbatches):
    """And one gradient: nothing is told of each but its loss."""
    terms, _ = two_terms()
    tx = optax.sgd(0.1)
    batch = {"rollout": toy.batch(0), "pretrain": toy.batch(1, rows=8)}

    def stepped(**kwargs):
        update = make_update(terms, tx, microbatches=microbatches, **kwargs)
        return jax.jit(update)(toy.init(tx=tx), batch)

    apart, told = stepped()
    added, less = stepped(term_norms=False)
    assert toy.largest_difference(apart.params, added.params) < 1e-6
    of_terms = {f"grad_norm/{name}" for name in terms}
    assert set(told) - set(less) == {*of_terms, "grad_cosine/rollout_pretrain"}
    for name in less:
        assert float(less[name]) == pytest.approx(float(told[name]), rel=1e-5), name


def test_added_terms_hold_one_gradient_over_micro_batches():
    """Two terms of one partition: one copy of it less is held."""
    size = 100_000

    def term(factor):
        def loss(params, batch, rng):
            wide = jnp.sin(factor * params["w"])[None] * batch["x"][:, None]
            return (batch["weights"] * wide.sum(axis=1)).sum(), {}

        return loss

    tx = optax.sgd(0.1)
    state = init_state({"w": jnp.ones(size)}, tx, jax.random.key(0))
    batch = {"x": np.ones(4, np.float32), "mask": np.ones(4, bool)}
    terms = {"a": term(1.0), "b": term(2.0)}

    def temporaries(**kwargs):
        update = jax.jit(make_update(terms, tx, microbatches=4, **kwargs))
        program = update.lower(state, batch).compile()
        return program.memory_analysis().temp_size_in_bytes

    one_gradient = 4 * size  # bytes
    assert temporaries() - temporaries(term_norms=False) >= one_gradient


def test_partitions_have_their_own_rates_and_clipping():
    def loss_fn(params, batch, rng):
        policy = 3.0 * params["policy"]["w"]
        return (batch["weights"] * (policy + 4.0 * params["value"]["w"])).sum(), {}

    tx = {"policy": optax.sgd(1.0), "value": optax.sgd(0.5)}
    params = {"policy": {"w": jnp.float32(0.0)}, "value": {"w": jnp.float32(0.0)}}
    state = init_state(params, tx, jax.random.key(0))
    batch = {"mask": np.ones(4, bool)}
    update = make_update(loss_fn, tx, clip_norm={"policy": 1.0})
    after, metrics = jax.jit(update)(state, batch)
    assert float(after.params["policy"]["w"]) == pytest.approx(-1.0)
    assert float(after.params["value"]["w"]) == pytest.approx(-2.0)
    assert float(metrics["grad_norm"]) == pytest.approx(5.0)
    assert float(metrics["grad_norm/policy"]) == pytest.approx(3.0)
    both, _ = jax.jit(make_update(loss_fn, tx, clip_norm=1.0))(state, batch)
    assert float(both.params["value"]["w"]) == pytest.approx(-0.5)


def test_a_partition_that_rests_keeps_every_bit_and_its_warm_up():
    def loss_fn(params, batch, rng):
        both = params["policy"]["w"] + params["value"]["w"]
        return (batch["weights"] * both).sum(), {}

    config = OptimizerConfig(learning_rate=0.1, warmup_steps=4, weight_decay=0.1)
    tx = {name: make_optimizer(config, 10) for name in ("policy", "value")}
    params = {name: {"w": jnp.float32(1.0)} for name in tx}
    update = jax.jit(make_update(loss_fn, tx, switches={"policy": "on"}))
    fresh = init_state(params, tx, jax.random.key(0))

    def after(*switches):
        state = fresh
        for on in switches:
            batch = {"mask": np.ones(4, bool), "on": np.float32(on)}
            state, _ = update(state, batch)
        return state

    def same(a, b):
        jax.tree.map(np.testing.assert_array_equal, a, b)

    resting = after(0, 0)
    same(resting.params["policy"], fresh.params["policy"])
    same(resting.opt_state["policy"], fresh.opt_state["policy"])
    same(resting.params["value"], after(1, 1).params["value"])
    same(after(0, 0, 1).params["policy"], after(1).params["policy"])
    assert resting.params["value"]["w"] != fresh.params["value"]["w"]
    with pytest.raises(ValueError, match="reward"):
        make_update(loss_fn, tx, switches={"reward": "on"})


def test_a_partition_without_an_optimizer_is_refused():
    with pytest.raises(ValueError, match="every top-level key"):
        init_state({"a": jnp.ones(1), "b": jnp.ones(1)}, {"a": optax.sgd(1.0)}, None)


def test_a_name_for_both_a_term_and_a_partition_is_refused():
    with pytest.raises(ValueError, match="policy"):
        make_update({"policy": toy.loss_fn}, {"policy": optax.sgd(1.0)})


def test_a_loss_cannot_hide_the_norm_that_the_guard_watches():
    def loss_fn(params, batch, rng):
        return (batch["weights"] * params["w"]).sum(), {"grad_norm": jnp.float32(0)}

    tx = optax.sgd(1.0)
    state = init_state({"w": jnp.float32(0.0)}, tx, jax.random.key(0))
    with pytest.raises(ValueError, match="grad_norm"):
        jax.jit(make_update(loss_fn, tx))(state, {"mask": np.ones(2, bool)})


# ------------------------------------------------------------------- frozen params


def frozen_loss(params, batch, rng, frozen):
    return (batch["weights"] * params["w"] * frozen["w"]).sum(), {}


@pytest.mark.parametrize("microbatches", [1, 2])
def test_frozen_params_are_arguments_and_no_constants(microbatches):
    """The same program with another reference; no copy of it inside."""
    tx = optax.sgd(1.0)
    terms = {"a": frozen_loss, "b": lambda params, batch, rng: (0.0 * params["w"], {})}
    update = make_update(terms, tx, microbatches=microbatches)
    driver = compile_update(update, mesh_of((8, 1, 1)), donate=False)
    state = init_state({"w": jnp.float32(1.0)}, tx, jax.random.key(0))
    batch = {"mask": np.ones(16, bool)}
    for factor in (3.0, 5.0):
        after, _ = driver(state, batch, {"w": jnp.float32(factor)})
        assert float(after.params["w"]) == pytest.approx(1.0 - factor)
    assert driver.compilations == 1


def test_frozen_params_that_are_missing_or_idle_are_told():
    tx = optax.sgd(1.0)
    state = init_state({"w": jnp.float32(1.0)}, tx, jax.random.key(0))
    batch = {"mask": np.ones(4, bool)}
    with pytest.raises(ValueError, match="'loss'.* take frozen params"):
        make_update(frozen_loss, tx)(state, batch)
    with pytest.raises(ValueError, match="no term takes `frozen`"):
        make_update(toy.loss_fn, tx)(state, batch, {"w": 1.0})


# --------------------------------------------------------------------- non-finite


def poisoned(step, value):
    batch = toy.batch(step)
    batch["noise"][5] = value
    return batch


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2)], ids=str)
def test_a_non_finite_gradient_leaves_every_bit(value, shape):
    """N1: params, moments, EMA and the schedule's count are untouched."""
    update = compile_update(toy.make(ema_decay=0.9), mesh_of(shape), donate=False)
    state, _ = update(update.place(toy.init(ema=True)), toy.batch(0))
    after, metrics = update(state, poisoned(1, value))
    for part in ("params", "opt_state", "ema", "rng"):
        assert toy.bits(getattr(after, part)) == toy.bits(getattr(state, part)), part
    assert int(metrics["skipped"]) == int(metrics["skipped_in_a_row"]) == 1
    assert (int(after.skipped), int(after.step)) == (1, 2)
    good, metrics = update(after, toy.batch(2))
    assert int(metrics["skipped_in_a_row"]) == int(good.skipped_in_a_row) == 0
    assert int(good.skipped) == 1
    assert toy.bits(good.params) != toy.bits(state.params)


def test_good_steps_around_a_bad_one_are_as_if_it_were_absent():
    update = jax.jit(toy.make())
    state = without = toy.init()
    for step in range(4):
        state, _ = update(
            state, poisoned(step, np.nan) if step == 2 else toy.batch(step)
        )
        if step != 2:
            without, _ = update(without, toy.batch(step))
    assert toy.bits(state.params) == toy.bits(without.params)
    assert toy.bits(state.opt_state) == toy.bits(without.opt_state)


def test_pmap_skips_on_all_devices_when_one_is_bad():
    update = pmap_update(toy.make(), donate=False)
    state = replicate(toy.init())
    after, metrics = update(state, split_rows(poisoned(0, np.nan)))
    assert np.asarray(metrics["skipped"]).tolist() == [1] * 8
    assert toy.bits(after.params) == toy.bits(state.params)


# ------------------------------------------------------------------- EMA, float16


def test_ema_follows_in_float32():
    decay, update = 0.992, jax.jit(toy.make(ema_decay=0.992))
    state = toy.init(ema=True)
    want = np.asarray(state.params["trunk"]["layers"]["norm"]["scale"], np.float64)
    for step in range(5):
        state, _ = update(state, toy.batch(step))
        now = np.asarray(state.params["trunk"]["layers"]["norm"]["scale"], np.float64)
        want = decay * want + (1 - decay) * now
    got = state.ema["trunk"]["layers"]["norm"]["scale"]
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_ema_needs_a_state_with_one():
    with pytest.raises(ValueError, match="ema=False"):
        jax.jit(toy.make(ema_decay=0.9))(toy.init(), toy.batch(0))


def test_ema_of_some_partitions_leaves_the_others_out():
    def loss_fn(params, batch, rng):
        both = params["policy"]["w"] + params["value"]["w"]
        return (batch["weights"] * both).sum(), {}

    tx = {name: optax.sgd(1.0) for name in ("policy", "value")}
    params = {name: {"w": jnp.float32(0.0)} for name in tx}
    state = init_state(params, tx, jax.random.key(0), ema=("policy",))
    update = jax.jit(make_update(loss_fn, tx, ema_decay=0.75))
    after, _ = update(state, {"mask": np.ones(4, bool)})
    assert jax.tree.map(float, after.ema) == {"policy": {"w": -0.25}}
    with pytest.raises(ValueError, match="reward"):
        init_state(params, tx, jax.random.key(0), ema=("reward",))


def half_loss(params, batch, rng):
    """A float16 forward whose gradient underflows without scaling."""
    w = params["w"].astype(jnp.float16)
    values = (batch["x"].astype(jnp.float16) * w) * jnp.float16(1e-4)
    tiny = (values * jnp.float16(1e-3)).astype(jnp.float32)
    return (batch["weights"] * tiny).sum(), {}


def half_state(tx, loss_scale):
    params = {"w": jnp.ones((), jnp.float32)}
    return init_state(params, tx, jax.random.key(0), loss_scale=loss_scale)


def test_loss_scaling_keeps_small_float16_gradients():
    batch = {"x": np.full(64, 0.01, np.float32), "mask": np.ones(64, bool)}
    tx = optax.sgd(1.0)
    update = jax.jit(make_update(half_loss, tx))
    plain, _ = update(half_state(tx, None), batch)
    scaled, metrics = update(half_state(tx, 2.0**15), batch)
    assert float(plain.params["w"]) == 1.0, "without scaling the gradient is lost"
    assert float(metrics["grad_norm"]) == pytest.approx(1e-9, rel=0.2)


def test_an_overflow_halves_the_scale_and_is_not_held_against_the_run():
    def loss_fn(params, batch, rng):
        y = (params["w"].astype(jnp.float16) * batch["x"].astype(jnp.float16)) * 100
        return (batch["weights"] * y.astype(jnp.float32)).sum(), {}

    tx = optax.sgd(1e-3)
    update = jax.jit(make_update(loss_fn, tx))
    state = half_state(tx, 2.0**15)
    batch = {"x": np.full(1, 1.0, np.float32), "mask": np.ones(1, bool)}
    skipped, scales = [], []
    for _ in range(12):
        state, metrics = update(state, batch)
        skipped.append(int(metrics["skipped"]))
        scales.append(float(metrics["loss_scale"]))
        assert int(metrics["skipped_in_a_row"]) == 0
    assert skipped[0] == 1 and skipped[-1] == 0
    assert scales[0] == 2.0**14 and scales[-1] == scales[-2]
    assert float(state.params["w"]) < 1.0


def test_good_updates_double_the_scale():
    tx = optax.sgd(0.0)
    state = half_state(tx, 8.0)
    scale = state.loss_scale.__class__(
        jnp.float32(8.0), jnp.int32(1), growth_interval=3
    )
    update = jax.jit(make_update(half_loss, tx))
    batch = {"x": np.ones(4, np.float32), "mask": np.ones(4, bool)}
    state, seen = state.replace(loss_scale=scale), []
    for _ in range(5):
        state, metrics = update(state, batch)
        seen.append(float(metrics["loss_scale"]))
    assert seen == [8.0, 16.0, 16.0, 16.0, 32.0]


# ------------------------------------------------------------------------ buffers


def test_the_state_is_donated_and_what_it_was_made_from_is_not():
    params = toy.init_params(jax.random.key(0))
    tx = toy.optimizer()
    state = init_state(params, tx, jax.random.key(7), ema=True)
    update = compile_update(toy.make(tx, ema_decay=0.9), mesh_of((1, 1, 1)))
    state = update.place(state)
    old = jax.tree.leaves(state.params)
    state, _ = update(state, toy.batch(0))
    state, _ = update(state, toy.batch(1))
    assert all(leaf.is_deleted() for leaf in old)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(params))


def test_randomness_is_named_by_step_and_microbatch():
    def loss_fn(params, batch, rng):
        return (batch["weights"] * params["w"]).sum(), {"draw": jax.random.uniform(rng)}

    tx = optax.sgd(0.0)
    state = init_state({"w": jnp.float32(0.0)}, tx, jax.random.key(3))
    batch = {"mask": np.ones(2, bool)}
    update = jax.jit(make_update(loss_fn, tx))
    first, a = update(state, batch)
    _, again = update(state, batch)
    _, b = update(first, batch)
    assert float(a["draw"]) == float(again["draw"]) != float(b["draw"])
    _, two = jax.jit(make_update(loss_fn, tx, microbatches=2))(state, batch)
    keys = [jax.random.fold_in(jax.random.fold_in(state.rng, 0), i) for i in (0, 1)]
    want = sum(float(jax.random.uniform(key)) for key in keys)
    assert float(two["draw"]) == pytest.approx(want, rel=1e-6)

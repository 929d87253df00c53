"""What is saved comes back bit for bit, on any mesh, or is refused by name."""

import logging
import multiprocessing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import states

from rlhf_jax.checkpoints import CheckpointStore, named_leaves, state_hash
from rlhf_jax.errors import CheckpointError, InputError, NumericsError
from rlhf_jax.faults import POINTS, injected


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """One checkpoint of a whole state; tests only read it."""
    state = states.placed(states.everything(), 8)
    store = CheckpointStore(tmp_path_factory.mktemp("saved"))
    store.save(3, state, {"step": 3, "note": "ü"})
    store.close()
    return store.directory, state


@pytest.fixture
def store(tmp_path):
    with_store = CheckpointStore(tmp_path / "checkpoints")
    yield with_store
    with_store.close()


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_a_state_saved_on_8_devices_is_the_same_on_fewer(saved, count):
    directory, state = saved
    wanted = states.template(state, count)
    restored, meta = CheckpointStore(directory).restore(wanted)
    assert state_hash(restored) == state_hash(state)
    assert meta == {"step": 3, "note": "ü"}
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for (name, leaf), like in zip(
        named_leaves(restored).items(), named_leaves(wanted).values(), strict=True
    ):
        if isinstance(like, jax.ShapeDtypeStruct):
            assert leaf.sharding.is_equivalent_to(like.sharding, leaf.ndim), name
            assert leaf.dtype == like.dtype
        else:
            assert type(leaf) is type(like), name


def test_a_state_saved_on_1_device_is_the_same_on_8_and_back(store):
    state = states.everything(1)
    store.save(1, state)
    on_8, _ = store.restore(states.template(state, 8))
    store.save(2, on_8)
    back, _ = store.restore(state, step=2)
    assert state_hash(back) == state_hash(state)
    assert all(
        len(leaf.devices()) == 1
        for leaf in jax.tree.leaves(back)
        if isinstance(leaf, jax.Array)
    )


def test_restored_keys_draw_the_same_numbers(saved):
    directory, state = saved
    restored, _ = CheckpointStore(directory).restore(states.template(state))
    for name in ("keys", "rbg"):
        a, b = state.extra[name], restored.extra[name]
        a, b = (key[0] if key.ndim else key for key in (a, b))
        a, b = (np.asarray(jax.random.bits(key, (9,))) for key in (a, b))
        assert (a == b).all()


def test_the_state_may_be_donated_and_changed_once_save_returns(store):
    state = {"w": jnp.arange(1 << 18, dtype=jnp.float32), "n": np.zeros(4)}
    before = state_hash(state)
    store.save(1, state)
    state["n"] += 1
    step = jax.jit(lambda w: w * 0 - 1, donate_argnums=0)
    template = jax.eval_shape(lambda: state["w"])
    assert (step(state["w"]) == -1).all()
    restored, _ = store.restore({"w": template, "n": state["n"]})
    assert state_hash(restored) == before


def test_a_leaf_that_the_checkpoint_lacks_fails_the_restore(saved):
    directory, state = saved
    grown = states.replaced(state, extra={**state.extra, "new": jnp.ones(3)})
    with pytest.raises(InputError, match=r"extra/new: absent -> float32\[3\]"):
        CheckpointStore(directory).restore(grown)


def test_every_leaf_of_the_train_state_is_in_the_checkpoint(saved):
    """Removing any leaf from the template is noticed: none is restored by luck."""
    directory, state = saved
    store = CheckpointStore(directory)
    names = [field for field in ("ema", "loss_scale")] + ["extra"]
    for name in names:
        less = states.replaced(state, **{name: None})
        with pytest.raises(InputError, match=f"{name}.*-> absent"):
            store.restore(less)


def test_another_model_shape_is_refused_with_all_differing_keys(saved):
    directory, state = saved
    wide = states.replaced(state, params={**state.params, "head": jnp.ones((32, 1))})
    with pytest.raises(InputError) as caught:
        CheckpointStore(directory).restore(wide)
    message = str(caught.value)
    assert "params/head: absent -> float32[32,1]" in message
    assert "params/head/kernel: float32[16,1] -> absent" in message
    assert str(directory / "3") in message and caught.value.exit_code == 2


def test_another_dtype_is_refused(saved):
    directory, state = saved
    half = states.replaced(state, step=jnp.float32(0))
    with pytest.raises(InputError, match=r"step: int32\[\] -> float32\[\]"):
        CheckpointStore(directory).restore(half)


def test_another_run_is_refused_key_by_key_unless_overridden(tmp_path):
    identity = {"stage": "sft", "data": {"train": "aa"}, "model": {"embed_dim": 8}}
    state = states.small()
    writer = CheckpointStore(tmp_path, identity=identity)
    writer.save(1, state)
    writer.close()
    other = {"stage": "rm", "data": {"train": "bb"}, "model": {"embed_dim": 8}}
    with pytest.raises(InputError) as caught:
        CheckpointStore(tmp_path, identity=other).restore(state)
    assert "data.train: aa -> bb" in str(caught.value)
    assert "stage: sft -> rm" in str(caught.value)
    assert "embed_dim" not in str(caught.value)
    with pytest.raises(InputError, match="stage: sft -> rm"):
        CheckpointStore(tmp_path, identity=other, override=["data"]).restore(state)
    store = CheckpointStore(tmp_path, identity=other, override=["data", "stage"])
    assert store.restore(state)[0].keys() == state.keys()
    assert CheckpointStore(tmp_path).restore(state)[0].keys() == state.keys()


def test_a_non_finite_state_is_refused_before_anything_is_written(store):
    state = states.small()
    store.save(1, state)
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        sick = {**state, "w": state["w"].at[2, 3].set(bad)}
        with pytest.raises(NumericsError, match="1 of 2 leaves.*: w"):
            store.save(2, sick)
    with pytest.raises(NumericsError, match="host"):
        store.save(2, {**state, "host": np.array([1.0, np.nan])})
    assert store.latest_step() == 1
    assert [path.name for path in store.directory.iterdir()] == ["1"]


def test_fifty_non_finite_steps_leave_the_last_good_one(tmp_path):
    store = CheckpointStore(tmp_path, keep_last=2)
    store.save(1, states.small(1))
    store.save(2, states.small(2))
    sick = {"w": jnp.full((4, 8), jnp.nan), "step": jnp.int32(0)}
    for step in range(3, 53):
        with pytest.raises(NumericsError):
            store.save(step, sick)
    assert store.steps() == [1, 2]
    assert np.isfinite(store.restore(states.small())[0]["w"]).all()
    store.close()


def test_no_checkpoint_is_said_plainly(tmp_path):
    store = CheckpointStore(tmp_path / "nowhere")
    assert store.latest_step() is None and store.steps() == []
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(CheckpointError, match="no checkpoint"):
        store.restore(states.small())
    with pytest.raises(CheckpointError, match="no checkpoint"):
        store.meta()
    with pytest.raises(CheckpointError, match="step 7 cannot be used.*absent"):
        store.restore(states.small(), step=7)


def test_a_step_that_is_not_new_is_refused_aloud_and_forced_if_asked(store):
    store.save(5, states.small(5))
    for step in (4, 5):
        with pytest.raises(CheckpointError, match=f"step {step} is not after step 5"):
            store.save(step, states.small(9))
    store.save(5, states.small(6), force=True)
    restored, _ = store.restore(states.small())
    assert restored["step"] == 6
    assert [path.name for path in store.directory.iterdir()] == ["5"]


def test_later_steps_are_discarded_to_go_on_from_an_earlier_one(store):
    for step in (1, 2, 3):
        store.save(step, states.small(step))
    store.discard_after(1)
    assert store.steps() == [1]
    store.save(2, states.small(8))
    assert store.restore(states.small())[0]["step"] == 8


def test_the_last_n_and_every_mth_are_kept(tmp_path):
    store = CheckpointStore(tmp_path, keep_last=2, keep_every=4)
    for step in range(0, 11):
        store.save(step, states.small(step))
    store.wait()
    assert store.steps() == [4, 8, 9, 10]
    store.close()


def test_an_old_step_goes_only_after_the_new_one_has_its_name(tmp_path):
    store = CheckpointStore(tmp_path, keep_last=1)
    store.save(1, states.small(1))
    store.wait()
    for point in ("ckpt.before_manifest", "ckpt.before_commit"):
        with injected(f"{point}:1:raise"), pytest.raises(CheckpointError):
            store.save(2, states.small(2))
            store.wait()
        assert store.steps() == [1]
    store.save(2, states.small(2))
    store.wait()
    assert store.steps() == [2]
    store.close()


def test_a_part_is_handed_over_to_the_next_stage(saved):
    directory, state = saved
    store = CheckpointStore(directory)
    whole = store.restore_params()
    assert state_hash(whole) == state_hash(state.params)
    assert state_hash(store.restore_params(subtree="ema")) == state_hash(state.ema)
    trunk = store.restore_params(
        states.template(state.params["trunk"], 4), subtree="params/trunk"
    )
    assert state_hash(trunk) == state_hash(state.params["trunk"])
    assert len(trunk["kernel"].devices()) == 4


def test_a_part_may_be_cast_to_another_float_but_to_nothing_else(saved):
    directory, state = saved
    store = CheckpointStore(directory)
    kernel = state.params["head"]["kernel"]
    half = {"head": {"kernel": jax.ShapeDtypeStruct(kernel.shape, jnp.bfloat16)}}
    got = store.restore_params(half)["head"]["kernel"]
    assert state_hash(got) == state_hash(kernel.astype(jnp.bfloat16))
    for shape, dtype in (((16, 2), jnp.float32), ((16, 1), jnp.int32)):
        with pytest.raises(InputError, match=r"head/kernel: float32\[16,1\] -> "):
            store.restore_params(
                {"head": {"kernel": jax.ShapeDtypeStruct(shape, dtype)}}
            )
    with pytest.raises(InputError, match="absent -> float32"):
        store.restore_params({"tail": jnp.ones(3)})
    with pytest.raises(InputError, match=r"nothing under 'weights'.*'params'"):
        store.restore_params(subtree="weights")


def test_meta_and_state_must_be_storable(store):
    with pytest.raises(InputError, match="meta of a checkpoint must be JSON"):
        store.save(1, states.small(), {"when": object()})
    with pytest.raises(InputError, match="name of the state is str"):
        store.save(1, {"name": "sft"})
    with pytest.raises(InputError, match="two leaves of the state have one path: a.b"):
        store.save(1, {"a": {"b": jnp.ones(2)}, "a.b": jnp.zeros(2)})
    assert store.latest_step() is None


@pytest.mark.parametrize(
    "bad", [{"keep_last": 0}, {"keep_every": 0}, {"on_save_error": "ignore"}]
)
def test_a_bad_setting_is_refused(tmp_path, bad):
    with pytest.raises(InputError):
        CheckpointStore(tmp_path, **bad)


def test_a_url_is_refused():
    with pytest.raises(InputError, match="mount the bucket"):
        CheckpointStore("gs://bucket/run")


def test_reading_deletes_and_makes_nothing(saved, tmp_path):
    directory, state = saved
    copy = states.copied(directory, tmp_path / "copy")
    (copy / "9.writing.orbax-checkpoint-tmp").mkdir()  # another process writes
    before = sorted(copy.rglob("*"))
    reader = CheckpointStore(copy)
    reader.restore(states.template(state))
    reader.close()
    assert sorted(copy.rglob("*")) == before


def test_close_twice_is_fine_and_saving_goes_on(store):
    store.save(1, states.small())
    store.close()
    store.close()
    store.save(2, states.small())
    assert store.latest_step() == 2


def test_saving_and_restoring_print_nothing(tmp_path, capfd, caplog):
    with caplog.at_level(logging.WARNING):
        store = CheckpointStore(tmp_path)
        store.save(1, states.small())
        store.restore(states.template(states.small(), 8))
        store.close()
    out, err = capfd.readouterr()
    assert (out, err, caplog.text) == ("", "", "")
    assert multiprocessing.active_children() == []


def test_every_fault_point_of_saving_and_restoring_is_passed(tmp_path):
    store = CheckpointStore(tmp_path, keep_last=1)
    with injected() as passed:
        store.save(1, states.small(1))
        store.save(2, states.small(2))
        store.restore(states.small())
    store.close()
    points = {point for point in POINTS if point.startswith("ckpt.")}
    assert set(passed) == points

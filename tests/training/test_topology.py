"""T1, T2: a checkpoint of one mesh continues on another."""

import jax
import numpy as np
import pytest
import toy_lm as toy

from rlhf_jax.checkpoints import CheckpointStore
from rlhf_jax.parallel import compile_update, make_mesh
from rlhf_jax.training import resume_or_init, run_loop

MESHES = [(1, 1, 1), (2, 1, 1), (1, 4, 1), (2, 2, 2)]


def init():
    return toy.init(ema=True)


def mesh_of(shape):
    return make_mesh(*shape, devices=jax.devices()[: int(np.prod(shape))])


def stepper(mesh):
    update = compile_update(toy.make(ema_decay=0.9), mesh)
    return lambda state, step: update(state, toy.batch(step))


@pytest.fixture(scope="module", params=[(1, 1, 1), (1, 8, 1)], ids=str)
def saved(request, tmp_path_factory):
    """A directory with a checkpoint at step 5 of 25, its hash, and the losses after."""
    folder = tmp_path_factory.mktemp("saved")
    mesh, losses = mesh_of(request.param), []
    with_store = CheckpointStore(folder, keep_last=1)
    state, _ = resume_or_init(init, mesh=mesh)
    state = run_loop(stepper(mesh), state, 5, store=with_store)
    with_store.close()
    digest = toy.bits(state)
    step_fn = stepper(mesh)
    for step in range(5, 25):
        state, metrics = step_fn(state, step)
        losses.append(float(metrics["loss"]))
    return folder, digest, losses


@pytest.mark.parametrize("shape", MESHES, ids=str)
def test_a_checkpoint_continues_on_any_mesh(shape, saved):
    folder, digest, want = saved
    mesh = mesh_of(shape)
    store = CheckpointStore(folder, keep_last=1)
    state, step = resume_or_init(init, mesh=mesh, store=store)
    store.close()
    assert step == 5 and toy.bits(state) == digest, "restored bit for bit"
    table = state.params["trunk"]["token_embed"]["embedding"]
    assert len(table.sharding.device_set) == mesh.size
    step_fn, losses = stepper(mesh), []
    for step in range(5, 25):
        state, metrics = step_fn(state, step)
        losses.append(float(metrics["loss"]))
    np.testing.assert_allclose(losses, want, rtol=1e-5)

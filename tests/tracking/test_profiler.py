"""A trace of the steps asked for, and the same results."""

import jax
import jax.numpy as jnp
import pytest

from rlhf_jax.tracking import traced


def run(step_fn, steps=6):
    state = jnp.ones((8, 8))
    for step in range(steps):
        state, _ = step_fn(state, step)
    return state


@jax.jit
def plain(state, step):
    return jnp.tanh(state @ state) + step, {}


def test_only_the_steps_asked_for_are_traced_and_results_stay(tmp_path):
    state = run(traced(plain, tmp_path, range(2, 4)))
    assert (state == run(plain)).all()
    assert len(list(tmp_path.rglob("*.xplane.pb"))) == 1


def test_no_steps_means_no_wrapper(tmp_path):
    assert traced(plain, tmp_path, ()) is plain


def test_a_step_that_fails_ends_its_trace(tmp_path):
    def fails(state, step):
        raise KeyError("batch")

    for _ in range(2):  # a trace left open would make the second start fail
        with pytest.raises(KeyError):
            traced(fails, tmp_path, [0])(None, 0)

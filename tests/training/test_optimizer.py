"""Optimizers and schedules against float64 loops and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.errors import InputError
from rlhf_jax.training import OptimizerConfig, learning_rate_schedule, make_optimizer
from rlhf_jax.training.optimizer import learning_rate_of

GRADS = np.random.default_rng(0).normal(size=(6, 5)) * [1, 1e-3, 1e-7, 1e-9, 0]


def applied(tx, grads=GRADS, start=None):
    """Parameters after each update, float32."""
    params = jnp.zeros(5) if start is None else start
    state, seen = tx.init(params), []
    update = jax.jit(tx.update)
    for grad in grads:
        steps, state = update(jnp.asarray(grad, jnp.float32), state, params)
        params = optax.apply_updates(params, steps)
        seen.append(np.asarray(params))
    return np.stack(seen), state


def adam_in_numpy(convention, epsilon, lr=0.01, b1=0.9, b2=0.95):
    m = v = p = np.zeros(5)
    seen = []
    for t, grad in enumerate(GRADS.astype(np.float32).astype(np.float64), 1):
        m, v = b1 * m + (1 - b1) * grad, b2 * v + (1 - b2) * grad**2
        if convention == "pytorch":
            step = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + epsilon)
        else:
            step = np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + epsilon)
        p = p - lr * step
        seen.append(p)
    return np.stack(seen)


def adam(convention, epsilon=1e-5, **kwargs):
    return OptimizerConfig(
        learning_rate=0.01,
        schedule="constant",
        epsilon=epsilon,
        epsilon_convention=convention,
        **kwargs,
    )


@pytest.mark.parametrize("convention", ["pytorch", "tensorflow"])
@pytest.mark.parametrize("epsilon", [1e-5, 1e-8])
def test_adam_is_the_textbook_in_both_conventions(convention, epsilon):
    got, _ = applied(make_optimizer(adam(convention, epsilon)))
    np.testing.assert_allclose(got, adam_in_numpy(convention, epsilon), rtol=2e-5)


def test_the_pytorch_convention_is_optax():
    got, _ = applied(make_optimizer(adam("pytorch")))
    want, _ = applied(optax.adam(0.01, b1=0.9, b2=0.95, eps=1e-5))
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-12)


def test_early_updates_are_smaller_in_the_tensorflow_convention():
    small = np.full((1, 5), 1e-5)
    early = [
        float(applied(make_optimizer(adam(convention)), small)[0][0, 0])
        for convention in ("pytorch", "tensorflow")
    ]
    # m-hat / (sqrt(v-hat) + eps) = 1/2;  with eps / sqrt(1 - b2) it is 1 / (1 + 4.47)
    np.testing.assert_allclose(early, [-0.005, -0.01 / (1 + 0.05**-0.5)], rtol=1e-5)


def test_weight_decay_is_decoupled_and_spares_norms_and_biases():
    layer = {"kernel": jnp.ones((2, 3, 3)), "bias": jnp.ones((2, 3))}
    params = {
        "layers": {"mlp": layer, "attention_norm": {"scale": jnp.ones((2, 3))}},
        "token_embed": {"embedding": jnp.ones((4, 3))},
    }
    config = adam("pytorch", weight_decay=0.1)
    tx = make_optimizer(config)
    zeros = jax.tree.map(jnp.zeros_like, params)
    steps, _ = tx.update(zeros, tx.init(params), params)
    got = jax.tree.map(lambda s: float(s.ravel()[0]), steps)
    shrink = pytest.approx(-0.001)
    assert got["layers"]["mlp"] == {"kernel": shrink, "bias": 0.0}
    assert got["layers"]["attention_norm"] == {"scale": 0.0}
    assert got["token_embed"] == {"embedding": shrink}


def test_rmsprop_is_what_dpo_used():
    config = OptimizerConfig(name="rmsprop", learning_rate=0.01, schedule="constant")
    got, _ = applied(make_optimizer(config))
    v, p, want = np.zeros(5), np.zeros(5), []
    for grad in GRADS.astype(np.float32).astype(np.float64):
        v = 0.99 * v + 0.01 * grad**2
        p = p - 0.01 * grad / (np.sqrt(v) + 1e-8)
        want.append(p)
    np.testing.assert_allclose(got, np.stack(want), rtol=2e-5)


def test_moments_are_float32_for_bfloat16_parameters():
    tx = make_optimizer(adam("pytorch"))
    state = tx.init(jnp.zeros(3, jnp.bfloat16))
    assert state[0].mu.dtype == state[0].nu.dtype == jnp.float32


def test_the_state_tells_the_rate_of_the_latest_update():
    config = OptimizerConfig(learning_rate=1.0, schedule="linear", final_fraction=0.0)
    _, state = applied(make_optimizer(config, 4), GRADS[:2])
    assert float(learning_rate_of(state)) == pytest.approx(0.75)
    assert learning_rate_of(optax.sgd(1.0).init(jnp.zeros(1))) is None


# ------------------------------------------------------------------------ schedules


def rates(num_steps, **kwargs):
    schedule = learning_rate_schedule(OptimizerConfig(**kwargs), num_steps)
    return np.asarray(schedule(jnp.arange(num_steps + 3)))


def test_cosine_ends_at_a_tenth():
    got = rates(10, learning_rate=2.0)
    np.testing.assert_allclose(got[[0, 5, 10, 12]], [2.0, 1.1, 0.2, 0.2], rtol=1e-6)


def test_constant_warms_up_from_a_tenth():
    """InstructGPT PPO: 10 iterations from 0.1 of the peak, then constant."""
    kwargs = {"schedule": "constant", "warmup_steps": 10, "learning_rate": 1.0}
    got = rates(20, **kwargs)
    np.testing.assert_allclose(got[[0, 5, 10, 19]], [0.1, 0.55, 1.0, 1.0], rtol=1e-6)
    assert np.all(got == rates(20, **kwargs))


def test_linear_falls_in_equal_steps():
    got = rates(10, learning_rate=1.0, schedule="linear", final_fraction=0.0)
    np.testing.assert_allclose(got[:11], np.linspace(1, 0, 11), atol=1e-7)


@given(
    schedule=st.sampled_from(["cosine", "linear", "constant"]),
    warmup=st.integers(0, 9),
    floor=st.floats(0, 1),
    start=st.floats(0, 1),
)
def test_rates_rise_then_fall_and_stay_in_range(schedule, warmup, floor, start):
    got = rates(
        10,
        learning_rate=1.0,
        schedule=schedule,
        warmup_steps=warmup,
        final_fraction=floor,
        warmup_from=start,
    )
    assert got.min() >= min(floor, start) - 1e-6 and got.max() <= 1 + 1e-6
    assert np.all(np.diff(got[: warmup + 1]) >= -1e-6)
    assert np.all(np.diff(got[warmup:]) <= 1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "lion"}, "lion"),
        ({"schedule": "step"}, "schedule='step'"),
        ({"epsilon_convention": "jax"}, "epsilon_convention='jax'"),
        ({"b2": 1.0}, "b2=1.0"),
        ({"final_fraction": 1.5}, "final_fraction=1.5"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"name": "adam", "weight_decay": 0.1}, "weight_decay"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(InputError, match=message):
        make_optimizer(OptimizerConfig(**change), 10)


def test_a_schedule_that_ends_needs_an_end():
    with pytest.raises(InputError, match="number of updates"):
        make_optimizer(OptimizerConfig())


def test_a_first_moment_in_bfloat16_is_near_and_half_as_large():
    config = adam("pytorch", moment_dtype="bfloat16")
    got, state = applied(make_optimizer(config))
    assert state[0].mu.dtype == jnp.bfloat16 and state[0].nu.dtype == jnp.float32
    want, _ = applied(make_optimizer(adam("pytorch")))
    np.testing.assert_allclose(got, want, rtol=0.02)
    assert not np.array_equal(got, want)
    config.moment_dtype = "int8"
    assert any("moment_dtype" in problem for problem in config.problems())

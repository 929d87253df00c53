"""A model that computes in bfloat16: the same promises, within its rounding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.models import LanguageModel
from rlhf_jax.sampling import SamplingSpec, generate

WIDTH, BUDGET, ROWS = 12, 24, 6  # of conftest.py
# Nats. These logits reach 13, where bfloat16 steps by 1/16; a handful of roundings on
# the way of a token moves its log-probability by up to 0.24 (measured, three keys).
TOLERANCE = 0.4


@pytest.fixture(scope="module")
def low(policy) -> LanguageModel:
    return LanguageModel(dataclasses.replace(policy.model.config, dtype="bfloat16"))


@pytest.fixture(scope="module")
def run(low, policy, batch, spec, key):
    def run(spec=spec, **options):
        rows = (batch.prompts, batch.valid, batch.row_ids)
        return generate(low, policy.params, *rows, key, spec, **options)

    return run


@pytest.fixture(scope="module")
def forward(low, policy):
    return jax.jit(lambda t, v: low.apply({"params": policy.params}, t, v))


def forced(forward, batch, samples):
    """log softmax of the training forward at every token of the responses."""
    tokens = jnp.concatenate([batch.prompts, samples.tokens], axis=1)
    valid = jnp.concatenate([batch.valid, samples.mask], axis=1)
    return jax.nn.log_softmax(forward(tokens, valid)[:, WIDTH - 1 : -1])


def gap(forward, batch, samples):
    """|sampler's log-probability - the training forward's|, 0 behind the response."""
    logprobs = forced(forward, batch, samples)
    chosen = jnp.take_along_axis(logprobs, samples.tokens[..., None], -1)[..., 0]
    return np.abs(np.where(samples.mask, chosen - samples.logprobs, 0))


def test_sampler_logprobs_are_teacher_forced_logprobs_within_rounding(
    run, forward, batch
):
    samples = run()
    assert samples.logprobs.dtype == jnp.float32
    differences = gap(forward, batch, samples)
    assert differences.max() < TOLERANCE
    assert differences.mean() < TOLERANCE / 8


def test_greedy_takes_a_token_that_the_training_forward_finds_largest(
    run, forward, batch
):
    samples = run(SamplingSpec(BUDGET, temperature=0))
    assert gap(forward, batch, samples).max() < TOLERANCE
    largest = forced(forward, batch, samples).max(axis=-1)
    assert np.abs(largest - samples.logprobs).max() < TOLERANCE


@pytest.mark.parametrize(("slots", "refill"), [(6, 6), (3, 1)])
def test_both_engines_write_the_same(run, slots, refill):
    static = run()
    continuous = run(engine="continuous", slots=slots, refill=refill)
    for name in ("tokens", "mask", "finished", "lengths"):
        np.testing.assert_array_equal(getattr(continuous, name), getattr(static, name))
    # equal shapes give equal bits; a product of fewer rows may add in another order
    limit = 0 if (slots, refill) == (ROWS, ROWS) else 1e-5
    np.testing.assert_allclose(continuous.logprobs, static.logprobs, rtol=0, atol=limit)
    assert static.mask.sum() > 2 * ROWS

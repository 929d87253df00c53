"""A temperature that is almost 0 is greedy sampling, with log-probabilities."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import BUDGET

from rlhf_jax.sampling import SamplingSpec, generate


@pytest.mark.parametrize("temperature", [1e-4, 1e-10, 1e-30])
def test_almost_no_temperature_is_greedy(policy, temperature):
    prompts = np.arange(8, dtype=np.int32).reshape(2, 4) + 3
    rows = np.arange(2, dtype=np.int32)
    spec = SamplingSpec(BUDGET, 0.0, end_tokens=(1,), pad_token=0)

    def written(spec):
        valid = np.ones(prompts.shape, bool)
        key = jax.random.key(0)
        return generate(policy.model, policy.params, prompts, valid, rows, key, spec)

    greedy = written(spec)
    cold = written(dataclasses.replace(spec, temperature=temperature))
    assert np.array_equal(cold.tokens, greedy.tokens)
    logprobs = np.asarray(cold.logprobs)[np.asarray(cold.mask)]
    assert np.isfinite(logprobs).all() and (logprobs <= 0).all()

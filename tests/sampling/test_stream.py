import numpy as np
import pytest

from rlhf_jax.errors import InputError
from rlhf_jax.sampling import SamplingSpec, generate, stream


def test_a_stream_writes_what_generate_writes(policy, batch, spec, key):
    samples = generate(
        policy.model,
        policy.params,
        batch.prompts,
        batch.valid,
        batch.row_ids,
        key,
        spec,
    )
    for row in (0, 3):
        prompt = batch.prompts[row][batch.valid[row]].tolist()
        name = int(batch.row_ids[row])
        written = list(
            stream(policy.model, policy.params, prompt, key, spec, row_id=name)
        )
        length = int(samples.lengths[row])
        assert [t for t, _ in written] == samples.tokens[row, :length].tolist()
        logprobs = np.array([logprob for _, logprob in written])
        np.testing.assert_allclose(logprobs, samples.logprobs[row, :length], atol=2e-5)


def test_a_stream_ends_at_the_end_of_the_context(policy, key):
    written = list(stream(policy.model, policy.params, [7] * 60, key, SamplingSpec(24)))
    assert len(written) == 4


def test_a_stream_of_budget_zero_is_empty(policy, key):
    assert not list(stream(policy.model, policy.params, [7], key, SamplingSpec(0)))


@pytest.mark.parametrize(("prompt", "why"), [([], "no token"), ([7] * 64, "no room")])
def test_a_prompt_that_cannot_be_continued_is_refused(policy, key, prompt, why):
    with pytest.raises(InputError, match=why):
        next(stream(policy.model, policy.params, prompt, key, SamplingSpec(4)))

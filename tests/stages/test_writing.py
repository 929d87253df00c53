"""What a policy writes, and how far it stands from the first one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.data.inputs import encode_prompts
from rlhf_jax.errors import InputError
from rlhf_jax.experience.scoring import sample_batch, sampling_spec
from rlhf_jax.experience.writing import make_writer
from rlhf_jax.sampling.randomness import named_key

PROMPTS = ["One", "Two words", "Three"]
LENGTHS = {"max_prompt": 12, "max_response": 6}


@pytest.fixture(scope="module")
def first(tiny):
    return tiny.model("pretrain")


@pytest.fixture(scope="module")
def moved(first):
    """The same model with every parameter a little larger."""
    params = jax.tree.map(lambda leaf: 1.2 * leaf, first.params)
    return dataclasses.replace(first, params=params)


def test_the_first_policy_has_not_moved(first):
    written = make_writer(first, **LENGTHS, batch_size=2)(first, PROMPTS)
    assert len(written.texts) == 3
    np.testing.assert_array_equal(written.kl, 0.0)


def test_distance_is_the_kl_over_the_vocabulary_summed_over_the_response(first, moved):
    written = make_writer(first, **LENGTHS, batch_size=4)(moved, PROMPTS)
    spec, key = sampling_spec(first, 6), named_key(jax.random.key(0), "writing")
    batch = encode_prompts([*PROMPTS, PROMPTS[0]], first.tokenizer, 12)
    samples = sample_batch(first.model, moved.params, batch, key, spec)
    tokens = jnp.concatenate([samples["prompts"], samples["tokens"]], axis=1)
    valid = jnp.concatenate([samples["valid"], samples["mask"]], axis=1)

    def logprobs(params):
        logits = first.model.apply({"params": params}, tokens, valid)
        return np.asarray(jax.nn.log_softmax(logits), np.float64)[:, 11:-1]

    p, q = logprobs(moved.params), logprobs(first.params)
    expected = ((np.exp(p) * (p - q)).sum(-1) * np.asarray(samples["mask"])).sum(1)
    np.testing.assert_allclose(written.kl, expected[:3], rtol=1e-4, atol=1e-5)
    assert (written.kl > 0).all()


def test_what_is_written_does_not_depend_on_the_batch(first, moved):
    two = make_writer(first, **LENGTHS, batch_size=2)(moved, PROMPTS)
    four = make_writer(first, **LENGTHS, batch_size=4)(moved, PROMPTS)
    assert two.texts == four.texts
    np.testing.assert_allclose(two.kl, four.kl, rtol=1e-4, atol=1e-5)


def test_a_policy_of_another_shape_is_bad_input(first):
    other = first.with_config(context_length=first.model.config.context_length + 1)
    with pytest.raises(InputError, match="one shape"):
        make_writer(first, **LENGTHS)(other, PROMPTS)

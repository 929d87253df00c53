"""The BERT reward model against transformers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.errors import InputError
from rlhf_jax.models import (
    Encoder,
    EncoderConfig,
    EncoderRewardModel,
    load_encoder,
)


@pytest.fixture(scope="module")
def expected(golden):
    return np.load(golden / "bert" / "expected.npz")


@functools.partial(jax.jit, static_argnums=0)
def encoded(model, params, tokens, valid):
    return model.apply({"params": params}, tokens, valid)


def test_states_and_pooler_are_those_of_transformers(golden, expected):
    found = load_encoder(golden / "bert", jax.random.key(0), pooling="pooler")
    tokens, lengths = expected["tokens"], expected["lengths"]
    valid = np.arange(tokens.shape[1])[None] < lengths[:, None]
    model = Encoder(found.config)
    states, pooled = encoded(model, found.params["encoder"], tokens, valid)
    real = np.where(valid[..., None], states - expected["hidden"], 0)
    assert np.abs(real).max() <= 1e-4
    np.testing.assert_allclose(pooled, expected["pooled"], atol=1e-4)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_padding_does_not_change_the_score(golden, expected, pooling):
    found = load_encoder(golden / "bert", jax.random.key(0), pooling=pooling)
    model, tokens = EncoderRewardModel(found.config), expected["tokens"]
    prompts, responses = tokens[:1, :6], tokens[None, 1:, :5]
    valid = np.ones((1, 6), bool), np.ones((1, 2, 5), bool)
    score = functools.partial(model.apply, {"params": found.params})
    plain = score(prompts, valid[0], responses, valid[1])
    left = np.pad(prompts, ((0, 0), (3, 0)), constant_values=39)
    right = np.pad(responses, ((0, 0), (0, 0), (0, 2)), constant_values=39)
    padded = score(
        left,
        np.pad(valid[0], ((0, 0), (3, 0))),
        right,
        np.pad(valid[1], ((0, 0), (0, 0), (0, 2))),
    )
    assert plain.shape == (1, 2) and plain.dtype == jnp.float32
    np.testing.assert_allclose(plain, padded, atol=1e-5)


def test_what_is_no_bert_is_refused(golden):
    with pytest.raises(InputError, match="not 'bert'"):
        load_encoder(golden / "gpt2_lm", jax.random.key(0))
    with pytest.raises(InputError, match="pooling"):
        EncoderConfig(pooling="max")

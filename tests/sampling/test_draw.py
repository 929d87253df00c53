import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from rlhf_jax.sampling import SamplingSpec
from rlhf_jax.sampling.draw import (
    draw_tokens,
    first_largest,
    row_keys,
    token_uniforms,
)
from rlhf_jax.sampling.filters import scaled_logits

draw, greedy = jax.jit(draw_tokens), jax.jit(first_largest)
LAST_UNIFORM = 1 - 2.0**-23  # the largest number that jax.random.uniform gives


def uniforms_of(count: int, seed: int = 0):
    keys = row_keys(jax.random.key(seed), jnp.arange(count))
    return token_uniforms(keys, jnp.zeros(count, jnp.int32))


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
@pytest.mark.parametrize("size", [16, 300])
def test_frequencies_are_those_of_the_softmax(temperature, size):
    """χ² over 40 000 draws; a wrong temperature fails with p < 1e-20."""
    count = 40_000
    logits = 1.5 * np.random.default_rng(size).standard_normal(size)
    spec = SamplingSpec(1, temperature=temperature)
    rows = jnp.tile(jnp.asarray(logits, jnp.float32), (count, 1))
    scaled = scaled_logits(rows, jnp.zeros(count, jnp.int32), spec)
    tokens, _ = draw(scaled, uniforms_of(count))
    weights = np.exp(logits / temperature)
    expected = count * weights / weights.sum()
    rare = expected < 5
    observed = np.bincount(np.asarray(tokens), minlength=size)
    pool = lambda counts: np.append(counts[~rare], counts[rare].sum() + 1e-9)  # noqa: E731
    assert chisquare(pool(observed), pool(expected)).pvalue > 0.001


SIZES = st.sampled_from([2, 127, 128, 129, 400])  # around the grid's 128 columns


@given(SIZES, st.integers(0, 2**31 - 1))
def test_the_log_probability_is_that_of_the_token(size, seed):
    logits = 4 * np.random.default_rng(seed).standard_normal((5, size))
    tokens, logprobs = draw(jnp.asarray(logits, jnp.float32), uniforms_of(5, seed))
    exact = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = exact[np.arange(5), np.asarray(tokens)]
    np.testing.assert_allclose(logprobs, expected, atol=1e-5)


EXTREMES = st.sampled_from([0.0, 0.5, LAST_UNIFORM])


@given(SIZES, st.integers(0, 2**31 - 1), EXTREMES, EXTREMES)
def test_what_is_filtered_out_is_never_drawn(size, seed, first, second):
    rng = np.random.default_rng(seed)
    kept = rng.random(size) < rng.random()
    kept[rng.integers(size)] = True
    logits = jnp.where(jnp.asarray(kept), 0.0, -jnp.inf)[None]
    tokens, logprobs = draw(logits, jnp.array([[first, second]], jnp.float32))
    assert kept[int(tokens[0])]
    np.testing.assert_allclose(logprobs[0], -np.log(kept.sum()), atol=1e-5)


def test_a_rare_token_of_a_large_vocabulary_keeps_its_probability():
    """One token holds half the mass, 50 256 share the rest; both are drawn rightly."""
    size, count = 50_257, 400
    logits = jnp.zeros(size).at[777].set(float(np.log(size - 1)))
    tokens, _ = draw(jnp.tile(logits, (count, 1)), uniforms_of(count))
    tokens = np.asarray(tokens)
    assert abs((tokens == 777).mean() - 0.5) < 0.1
    others = tokens[tokens != 777]
    assert len(np.unique(others)) > 0.98 * len(others)  # spread out, no lattice
    assert others.max() > 0.9 * size > others.min() * 9


def test_a_key_names_a_token_and_not_a_place_in_the_batch():
    key, ids = jax.random.key(3), jnp.array([7, 1, 40])
    steps = jnp.array([2, 0, 5])
    together = token_uniforms(row_keys(key, ids), steps)
    for place in range(3):
        name = jax.random.fold_in(jax.random.fold_in(key, ids[place]), steps[place])
        alone = jax.random.uniform(name, (2,))
        assert (together[place] == alone).all()


@given(SIZES, st.integers(0, 2**31 - 1))
def test_greedy_takes_the_first_of_the_largest(size, seed):
    row = np.random.default_rng(seed).integers(-3, 4, size)
    tokens, logprobs = greedy(jnp.asarray(row, jnp.float32)[None])
    assert int(tokens[0]) == int(np.argmax(row))
    exact = max(row) - np.log(np.exp(np.float64(row)).sum())
    np.testing.assert_allclose(logprobs[0], exact, atol=1e-5)

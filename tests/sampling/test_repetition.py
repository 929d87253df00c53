"""Repeated pairs, against all pairs of pairs."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.sampling import repeated_pairs


def by_all_pairs(tokens, mask):
    found = np.zeros(tokens.shape, np.float32)
    for b, row in enumerate(tokens):
        seen = set()
        for r, token in enumerate(row):
            pair = (row[r - 1] if r else None, token)
            found[b, r] = mask[b, r] and pair in seen
            if mask[b, r]:
                seen.add(pair)
    return found


@given(st.integers(0, 2**31), st.sampled_from([1, 2, 17]), st.integers(1, 4))
def test_repeated_pairs_are_those_that_stood_earlier(seed, length, words):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, words, (3, length)).astype(np.int32)
    mask = rng.random((3, length)) < 0.7
    found = repeated_pairs(jnp.asarray(tokens), jnp.asarray(mask))
    np.testing.assert_array_equal(found, by_all_pairs(tokens, mask))


def test_an_empty_response_repeats_nothing():
    found = repeated_pairs(jnp.zeros((2, 0), jnp.int32), jnp.zeros((2, 0), bool))
    assert found.shape == (2, 0)

import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.sampling import SamplingSpec
from rlhf_jax.sampling.filters import keep_top_k, keep_top_p, scaled_logits

logits_rows = st.lists(
    st.floats(-8, 8, width=32), min_size=7, max_size=7, unique=True
).map(lambda row: np.array([row], np.float32))


def nucleus(row: np.ndarray, p: float) -> set[int]:
    """The fewest most probable tokens whose probabilities reach p, in float64."""
    probabilities = np.exp(row.astype(np.float64))
    probabilities /= probabilities.sum()
    kept, total = set(), 0.0
    for token in np.argsort(-probabilities):
        if total >= p:
            break
        kept.add(int(token))
        total += probabilities[token]
    return kept


@given(logits_rows, st.floats(0.05, 0.99))
def test_top_p_keeps_the_smallest_set_that_reaches_p(logits, p):
    kept = np.isfinite(np.asarray(keep_top_p(jnp.asarray(logits), p)))[0]
    expected = nucleus(logits[0], p)
    if expected == nucleus(logits[0], p + 1e-5) == nucleus(logits[0], p - 1e-5):
        assert set(np.flatnonzero(kept)) == expected


@given(logits_rows, st.integers(1, 6))
def test_top_k_keeps_the_k_largest(logits, k):
    kept = np.isfinite(np.asarray(keep_top_k(jnp.asarray(logits), k)))[0]
    assert set(np.flatnonzero(kept)) == set(np.argsort(-logits[0])[:k])


def test_equals_of_the_last_kept_logit_stay():
    kept = np.isfinite(keep_top_k(jnp.array([[1.0, 2.0, 2.0, 0.0]]), 1))
    assert kept.tolist() == [[False, True, True, False]]


@given(logits_rows)
def test_top_p_always_keeps_the_largest(logits):
    kept = np.asarray(keep_top_p(jnp.asarray(logits), 1e-6))
    assert np.isfinite(kept).sum() == 1 and np.isfinite(kept)[0, logits[0].argmax()]


def test_top_p_acts_on_what_top_k_left():
    """softmax over the two kept is (0.73, 0.27): the first alone reaches 0.7."""
    logits = jnp.array([[2.0, 1.0, 0.9, 0.8]])
    spec = SamplingSpec(4, top_k=2, top_p=0.7)
    kept = np.isfinite(scaled_logits(logits, jnp.zeros(1, jnp.int32), spec))
    assert kept.tolist() == [[True, False, False, False]]


def test_end_tokens_are_withheld_until_the_minimum():
    logits = jnp.zeros((3, 4))
    spec = SamplingSpec(8, end_tokens=(1, 3), min_new_tokens=2)
    kept = np.isfinite(scaled_logits(logits, jnp.array([0, 1, 2]), spec))
    without, everything = [True, False, True, False], [True] * 4
    assert kept.tolist() == [without, without, everything]


def test_bfloat16_logits_are_scaled_in_float32():
    logits = jnp.array([[1.0, 3.0]], jnp.bfloat16)
    scaled = scaled_logits(
        logits, jnp.zeros(1, jnp.int32), SamplingSpec(1, temperature=0.7)
    )
    assert scaled.dtype == jnp.float32
    np.testing.assert_allclose(scaled, [[-2 / 0.7, 0]], rtol=1e-6)


def test_a_plain_spec_leaves_the_logits_alone():
    logits = jnp.array([[0.3, -1.5, 7.0]])
    scaled = scaled_logits(logits, jnp.zeros(1, jnp.int32), SamplingSpec(1))
    assert (np.asarray(scaled) == np.asarray(logits)).all()

"""Masks to weights to sums; whitening over a mask."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rlhf_jax import losses

NUMBERS = st.floats(-100, 100, width=32)
few = settings(max_examples=15)


@st.composite
def values_and_mask(draw):
    shape = draw(st.sampled_from([(1,), (6,), (3, 4)]))
    values = draw(hnp.arrays(np.float32, shape, elements=NUMBERS))
    return values, draw(hnp.arrays(np.bool_, shape))


@few
@given(values_and_mask())
def test_the_masked_mean_is_the_mean_of_what_the_mask_selects(drawn):
    values, mask = drawn
    expected = values[mask].astype(np.float64).mean() if mask.any() else 0.0
    mean = losses.masked_mean(jnp.asarray(values), jnp.asarray(mask))
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-4)


@few
@given(values_and_mask())
def test_weights_add_to_one_or_are_all_zero(drawn):
    _, mask = drawn
    weights = losses.normalize(jnp.asarray(mask))
    assert weights.dtype == jnp.float32
    np.testing.assert_allclose(weights.sum(), float(mask.any()), rtol=1e-6)
    assert not weights[~mask].any()


@few
@given(values_and_mask(), st.booleans())
def test_whitening_is_numpy_s_over_the_selected_values(drawn, shift_mean):
    values, mask = drawn
    whitened = np.asarray(
        losses.masked_whiten(
            jnp.asarray(values), jnp.asarray(mask), shift_mean=shift_mean
        )
    )
    assert not whitened[~mask].any()
    kept = values[mask].astype(np.float64)
    if kept.size and kept.std() > 1e-2:
        expected = (kept - kept.mean()) / np.sqrt(kept.var() + 1e-8)
        expected += 0 if shift_mean else kept.mean()
        np.testing.assert_allclose(whitened[mask], expected, rtol=1e-3, atol=1e-3)


def test_what_is_masked_reaches_neither_mean_nor_spread_nor_gradient():
    mask = jnp.array([True, True, False])
    for bad in (jnp.nan, jnp.inf):
        values = jnp.array([1.0, 3.0, bad])
        gradient = jax.grad(lambda v: losses.masked_whiten(v, mask)[0])(values)
        assert jnp.isfinite(gradient).all() and gradient[2] == 0
        assert jnp.isfinite(losses.masked_whiten(values, mask)).all()
        gradient = jax.grad(losses.masked_mean)(values, mask)
        assert gradient.tolist() == [0.5, 0.5, 0.0]


def test_a_nan_under_no_mask_is_not_hidden():
    values, mask = jnp.array([jnp.nan, 1.0]), jnp.array([True, True])
    assert jnp.isnan(losses.masked_mean(values, mask))
    assert jnp.isnan(losses.masked_whiten(values, mask)).all()
    # A gradient that is NaN upstream stays NaN, too.
    ratio = jax.grad(lambda v: losses.masked_mean(jnp.exp(v), mask))(values)
    assert jnp.isnan(ratio[0]) and jnp.isfinite(ratio[1])


def test_constant_values_whiten_to_zero_and_an_empty_mask_too():
    values = jnp.full((4,), 7.0)
    assert not losses.masked_whiten(values, jnp.ones(4, bool)).any()
    assert not losses.masked_whiten(values, jnp.zeros(4, bool)).any()
    kept = losses.masked_whiten(values, jnp.ones(4, bool), shift_mean=False)
    np.testing.assert_array_equal(kept, values)


def test_rewards_whitened_without_shift_keep_their_mean():
    values = jnp.array([1.0, 5.0, 9.0])
    whitened = losses.masked_whiten(values, jnp.ones(3, bool), shift_mean=False)
    np.testing.assert_allclose(whitened.mean(), 5.0, rtol=1e-6)
    np.testing.assert_allclose(whitened.std(), 1.0, rtol=1e-5)


def test_a_count_beyond_float32_s_integers_is_still_exact():
    many = jnp.ones((2**24 + 3,), bool)
    weight = losses.normalize(many)[0]
    np.testing.assert_allclose(float(weight) * (2**24 + 3), 1.0, rtol=1e-7)


def test_metrics_of_any_kind_can_be_averaged():
    right, mask = jnp.array([True, False, True]), jnp.array([1, 1, 0], jnp.int32)
    assert losses.masked_mean(right, mask) == 0.5
    assert losses.masked_mean(right, mask).dtype == jnp.float32


def test_a_mask_is_no_weight_and_shapes_are_not_broadcast(unchecked):
    values, mask = jnp.ones((2, 3)), jnp.ones((2, 3), bool)
    with pytest.raises(TypeError, match="normalize"):
        unchecked.weighted_sum(values, mask)
    for function in (unchecked.masked_mean, unchecked.masked_whiten):
        with pytest.raises(ValueError, match=r"\(2, 3\).*\(2,\)"):
            function(values, mask[:, 0])
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3,\)"):
        unchecked.weighted_sum(values, jnp.ones(3))


def test_the_suite_s_checker_sees_wrong_shapes_before_the_loss_does():
    import jaxtyping

    with pytest.raises(jaxtyping.TypeCheckError):
        losses.masked_mean(jnp.ones((2, 3)), jnp.ones(2, bool))


def test_dtypes_are_not_promoted_silently_in_this_folder():
    with pytest.raises(Exception, match="promotion"):
        jnp.ones(2, jnp.float32) + jnp.ones(2, jnp.bfloat16)

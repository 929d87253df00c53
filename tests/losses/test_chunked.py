"""The chunked op is the plain one: in value, in gradient, in less memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax import losses

few = settings(max_examples=6)
SETTINGS = {"temperature": 0.7, "soft_cap": 3.0}


def model(shape, words=13, width=6, dtype=jnp.float32, seed=0):
    rng = np.random.default_rng(seed)
    return (
        jnp.asarray(rng.normal(size=(*shape, width)), dtype),
        jnp.asarray(rng.normal(size=(words, width)), dtype),
        jnp.asarray(rng.normal(size=words), jnp.float32),
        jnp.asarray(rng.integers(0, words, shape), jnp.int32),
    )


def plain_logits(hidden, unembedding, bias):
    logits = jnp.matmul(
        hidden, unembedding.T, preferred_element_type=jnp.float32
    ) + bias.reshape((1,) * (hidden.ndim - 1) + bias.shape)
    cap = SETTINGS["soft_cap"]
    return cap * jnp.tanh(logits / cap) / SETTINGS["temperature"]


def mixture(logprobs, entropy):
    """Some scalar of both, unequal at every token."""
    factor = jnp.linspace(-1, 2, logprobs.size).reshape(logprobs.shape)
    return jnp.sum(factor * logprobs + factor**2 * entropy)


@functools.partial(jax.jit, static_argnums=(4,))
def chunked_gradients(hidden, unembedding, bias, tokens, chunk_size):
    def loss(hidden, unembedding, bias):
        return mixture(
            *losses.chunked_logprobs(
                hidden,
                unembedding,
                tokens,
                bias=bias,
                chunk_size=chunk_size,
                with_entropy=True,
                **SETTINGS,
            )
        )

    return jax.value_and_grad(loss, argnums=(0, 1, 2))(hidden, unembedding, bias)


@jax.jit
def plain_gradients(hidden, unembedding, bias, tokens):
    def loss(*weights):
        logits = plain_logits(*weights)
        return mixture(losses.token_logprobs(logits, tokens), losses.entropy(logits))

    return jax.value_and_grad(loss, argnums=(0, 1, 2))(hidden, unembedding, bias)


def assert_close(ours, theirs, tolerance=2e-5):
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert one.dtype == other.dtype
        one, other = (np.asarray(x, np.float64) for x in (one, other))
        scale = max(1.0, np.abs(other).max())
        np.testing.assert_allclose(one, other, atol=tolerance * scale, rtol=tolerance)


@pytest.mark.parametrize(
    ("shape", "chunk_size"),
    [((), 1), ((7,), 4), ((3, 5), 1), ((3, 5), 6), ((2, 1, 4), 100)],
)
def test_any_cut_gives_the_plain_value_and_gradient(shape, chunk_size):
    arrays = model(shape)
    assert_close(chunked_gradients(*arrays, chunk_size), plain_gradients(*arrays))


@few
@given(st.integers(1, 40), st.integers(0, 2**31))
def test_no_chunk_size_changes_a_value(chunk_size, seed):
    hidden, unembedding, _, tokens = model((3, 5), seed=seed)
    logprobs = losses.chunked_logprobs(
        hidden, unembedding, tokens, chunk_size=chunk_size
    ).logprobs
    plain = losses.token_logprobs(jnp.matmul(hidden, unembedding.T), tokens)
    np.testing.assert_allclose(logprobs, plain, rtol=1e-5, atol=1e-5)


def test_no_tokens_give_no_logprobs():
    hidden, unembedding, _, tokens = model((3, 0))
    assert losses.chunked_logprobs(hidden, unembedding, tokens).logprobs.shape == (3, 0)


def test_bfloat16_states_give_float32_results_summed_in_float32():
    arrays = model((4, 64), dtype=jnp.bfloat16)
    ours, theirs = chunked_gradients(*arrays, 4), plain_gradients(*arrays)
    assert ours[0].dtype == jnp.float32
    exact = plain_gradients(*(a.astype(jnp.float32) for a in arrays[:3]), arrays[3])
    assert_close(ours[0], exact[0], 1e-3)
    assert ours[1][1].dtype == jnp.bfloat16
    error, plain_error = (
        np.abs(np.asarray(g[1][1], np.float32) - exact[1][1]).max()
        for g in (ours, theirs)
    )
    # 64 chunks do not add rounding errors up.
    assert error < 2 * plain_error + 1e-2 * np.abs(exact[1][1]).max()


def test_nothing_as_large_as_the_logits_is_ever_held():
    words, chunk = 2000, 16
    arrays = model((4, 64), words=words)
    plain = plain_gradients.lower(*arrays).compile().memory_analysis()
    chunked = chunked_gradients.lower(*arrays, chunk).compile().memory_analysis()
    logits = 4 * 64 * words * 4  # bytes
    assert plain.temp_size_in_bytes > logits
    assert chunked.temp_size_in_bytes < logits / 2


@pytest.mark.parametrize("chunk_size", [4, None])  # several chunks; one, kept
def test_a_nan_state_without_weight_reaches_no_gradient(chunk_size):
    hidden, unembedding, _, tokens = model((2, 6))
    weights = losses.normalize(jnp.arange(6)[None, :] < jnp.array([4, 6])[:, None])

    @jax.jit
    def gradients(hidden):
        def loss(hidden, unembedding):
            logprobs = losses.chunked_logprobs(
                hidden, unembedding, tokens, chunk_size=chunk_size
            ).logprobs
            return losses.weighted_sum(logprobs, weights)

        return jax.grad(loss, argnums=(0, 1))(hidden, unembedding)

    clean, broken = gradients(hidden), gradients(hidden.at[0, 4:].set(jnp.nan))
    for one, other in zip(clean, broken, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_exact_kl_of_two_models_is_the_plain_one():
    ours, theirs = model((2, 5)), model((2, 5), width=4, seed=1)
    kl = losses.chunked_exact_kl(
        ours[0],
        ours[1],
        theirs[0],
        theirs[1],
        bias=ours[2],
        ref_bias=theirs[2],
        chunk_size=4,
        **SETTINGS,
    )
    plain = losses.exact_kl(plain_logits(*ours[:3]), plain_logits(*theirs[:3]))
    np.testing.assert_allclose(kl, plain, rtol=1e-5, atol=1e-6)


def test_the_kl_of_a_model_to_itself_is_exactly_zero():
    hidden, unembedding, _, _ = model((2, 5), dtype=jnp.bfloat16)
    kl = losses.chunked_exact_kl(
        hidden, unembedding, hidden, unembedding, temperature=0.7, chunk_size=4
    )
    assert kl.dtype == jnp.float32 and not kl.any()


def test_a_token_outside_the_vocabulary_gives_nan():
    hidden, unembedding, _, _ = model((1, 3))
    tokens = jnp.array([[-1, 13, 12]], jnp.int32)
    logprobs = losses.chunked_logprobs(hidden, unembedding, tokens).logprobs
    assert jnp.isnan(logprobs).tolist() == [[True, True, False]]


def test_wrong_shapes_and_settings_are_refused(unchecked):
    hidden, unembedding, bias, tokens = model((2, 5))
    chunked = unchecked.chunked_logprobs
    with pytest.raises(ValueError, match=r"\(2, 5, 6\).*\(6, 13\)"):
        chunked(hidden, unembedding.T, tokens)
    with pytest.raises(ValueError, match=r"\(2, 5, 6\).*\(2, 4\)"):
        chunked(hidden, unembedding, tokens[:, :4])
    with pytest.raises(ValueError, match=r"\(12,\).*\(13, 6\)"):
        chunked(hidden, unembedding, tokens, bias=bias[:12])
    with pytest.raises(TypeError, match="float32"):
        chunked(hidden, unembedding, hidden[..., 0])
    with pytest.raises(ValueError, match=r"\(13, 6\).*\(12, 6\)"):
        unchecked.chunked_exact_kl(hidden, unembedding, hidden, unembedding[:12])
    for wrong in ({"temperature": 0.0}, {"soft_cap": -1.0}, {"chunk_size": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            chunked(hidden, unembedding, tokens, **wrong)

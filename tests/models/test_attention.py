"""Attention in blocks against float64 NumPy and against automatic differentiation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.models.attention import NO_TOKEN, Places, Rule, attend, merged

B, N, G, T, H = 2, 2, 2, 150, 8  # two blocks of queries and of keys
RULES = {
    "causal": (Rule(ordered=True), None),
    "window and cap": (Rule(soft_cap=2.0, ordered=True), 17),
    "any order": (Rule(), None),
}


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    query = rng.normal(size=(B, N, G, T, H)).astype(np.float32)
    key, value = rng.normal(size=(2, B, N, T, H)).astype(np.float32)
    positions = np.broadcast_to(np.arange(T), (B, T)).astype(np.int32)
    empty = rng.random((B, T)) < 0.2
    empty[0, :3] = True  # rows 0..2 of row 0 see nothing
    places = Places(jnp.asarray(positions), jnp.zeros((B, T), jnp.int32))
    keys = Places(places.positions, jnp.where(empty, NO_TOKEN, 0).astype(jnp.int32))
    return query, key, value, places, keys


def direct(rule, query, key, value, queries, keys, window, xp=jnp):
    """The definition, all scores at once."""
    q, k = (xp.asarray(p.positions) for p in (queries, keys))
    seen = (k[:, None] <= q[:, :, None]) & (xp.asarray(keys.segments) == 0)[:, None]
    if window is not None:
        seen = seen & (q[:, :, None] - k[:, None] < window)
    seen = xp.broadcast_to(seen[:, None, None], (B, N, G, T, T))
    scores = xp.einsum("bngth,bnsh->bngts", query, key)
    if rule.soft_cap:
        scores = rule.soft_cap * xp.tanh(scores / rule.soft_cap)
    weights = xp.where(seen, xp.exp(xp.where(seen, scores, 0)), 0)
    total = weights.sum(-1, keepdims=True)
    out = xp.einsum("bngts,bnsh->bngth", weights, value)
    return out / xp.where(total > 0, total, 1), xp.log(xp.where(total > 0, total, 1))


@pytest.mark.parametrize("name", RULES)
def test_the_average_and_its_normaliser_match_float64(arrays, name):
    rule, window = RULES[name]
    out, log_z = jax.jit(functools.partial(attend, rule))(*arrays, window)
    doubles = [a.astype(np.float64) for a in arrays[:3]]
    expected, log_total = direct(rule, *doubles, *arrays[3:], window, xp=np)
    some = log_z > -1e29
    np.testing.assert_allclose(out, expected, atol=2e-6)
    np.testing.assert_allclose(
        jnp.where(some, log_z, 0), np.where(some, log_total[..., 0], 0), atol=1e-5
    )
    assert not out[0, :, :, :3].any(), "where nothing is visible the average is 0"


@pytest.mark.parametrize("name", RULES)
def test_gradients_are_those_of_the_definition(arrays, name):
    rule, window = RULES[name]
    weights = jax.random.normal(jax.random.key(0), arrays[0].shape)

    def loss(function, query, key, value):
        out, log_z = function(rule, query, key, value, *arrays[3:], window)
        log_z = log_z.reshape(*out.shape[:-1])
        return (out * weights).sum() + jnp.where(log_z > -1e29, log_z, 0.0).sum()

    gradient = lambda f: jax.grad(functools.partial(loss, f), (0, 1, 2))  # noqa: E731
    found, expected = jax.jit(lambda *a: (gradient(attend)(*a), gradient(direct)(*a)))(
        *arrays[:3]
    )
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, two, atol=3e-5)


def test_two_parts_join_to_the_whole(arrays):
    query, key, value, queries, keys = arrays
    rule = Rule()

    @jax.jit
    def parts():
        cut = [slice(0, 40), slice(40, None)]
        return merged(
            [
                attend(
                    rule, query, key[:, :, s], value[:, :, s], queries, keys[s], None
                )
                for s in cut
            ]
        )

    whole, _ = attend(rule, *arrays, None)
    np.testing.assert_allclose(parts(), whole, atol=2e-6)

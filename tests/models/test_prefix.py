"""K responses against a prompt computed once, against K separate sequences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import assert_same_gradients, config_of, loud_params

from rlhf_jax.models import (
    LanguageModel,
    ScalarModel,
    last_values,
    shared_prefix_hidden,
    shared_prefix_values,
    unstack_layers,
)
from rlhf_jax.stages.reward import ranking_scores

B, K, P, R = 2, 3, 5, 6
PROMPTS = jax.random.randint(jax.random.key(0), (B, P), 0, 40)
RESPONSES = jax.random.randint(jax.random.key(1), (B, K, R), 0, 40)
PROMPT_VALID = jnp.arange(P)[None] >= jnp.array([[0], [2]])
LENGTHS = jnp.array([[6, 2, 4], [1, 6, 5]])
RESPONSE_VALID = jnp.arange(R)[None, None] < LENGTHS[..., None]
ROWS = (PROMPTS, PROMPT_VALID, RESPONSES, RESPONSE_VALID)


def separate(method, model, params):
    """Each response behind its own copy of the prompt; from the token before it on."""
    join = lambda one, many: jnp.concatenate(  # noqa: E731
        [jnp.repeat(one, K, axis=0), many.reshape(-1, R)], axis=1
    )
    tokens, valid = join(PROMPTS, RESPONSES), join(PROMPT_VALID, RESPONSE_VALID)
    out = model.apply({"params": params}, tokens, valid, method=method)
    return out.reshape(B, K, P + R, *out.shape[2:])[:, :, P - 1 :]


@pytest.mark.parametrize("family", ["gpt2", "qwen2", "gemma2"])
def test_shared_values_and_gradients_are_those_of_separate_sequences(family):
    model = ScalarModel(config_of(family))
    params = loud_params(model)

    def shared(params):
        values = shared_prefix_values(model, params, *ROWS)
        return jnp.where(RESPONSE_VALID, values, 0.0)

    def apart(params):
        values = separate(None, model, params)[:, :, 1:]
        return jnp.where(RESPONSE_VALID, values, 0.0)

    @jax.jit
    def gradients(params):
        return [
            jax.value_and_grad(lambda p, f=f: jnp.square(f(p)).sum())(params)
            for f in (shared, apart)
        ] + [(shared(params), apart(params))]

    (_, one), (_, two), values = gradients(params)
    np.testing.assert_allclose(*values, atol=1e-5)
    assert_same_gradients(one, two)


@pytest.mark.parametrize("family", ["gpt2", "qwen2", "gemma2"])
def test_a_ranking_in_one_row_has_the_values_and_gradients_of_padded_ones(family):
    model = ScalarModel(config_of(family))
    params = loud_params(model)
    # the prompt, then the valid tokens of one response behind those of the other
    order = jnp.argsort(~RESPONSE_VALID.reshape(B, K * R), axis=1, stable=True)
    behind = [
        jnp.take_along_axis(x, order, axis=1)
        for x in (
            RESPONSES.reshape(B, K * R),
            RESPONSE_VALID.reshape(B, K * R),
            jnp.broadcast_to(jnp.repeat(jnp.arange(K), R), (B, K * R)),
        )
    ]
    before = (PROMPTS, PROMPT_VALID, jnp.zeros_like(PROMPTS))
    tokens, valid, segments = map(
        lambda *both: jnp.concatenate(both, axis=1), before, behind
    )
    common = jnp.broadcast_to(jnp.arange(P + K * R) < P, valid.shape)

    def packed(params):
        values = model.apply(
            {"params": params}, tokens, valid, segments=segments, common=common
        )
        return jnp.where(behind[1], values[:, P:], 0.0)

    def padded(params):
        values = shared_prefix_values(model, params, *ROWS).reshape(B, K * R)
        return jnp.where(behind[1], jnp.take_along_axis(values, order, axis=1), 0.0)

    @jax.jit
    def gradients(params):
        return [
            jax.value_and_grad(lambda p, f=f: jnp.square(f(p)).sum())(params)
            for f in (packed, padded)
        ] + [(packed(params), padded(params))]

    (_, one), (_, two), values = gradients(params)
    np.testing.assert_allclose(*values, atol=1e-5)
    assert_same_gradients(one, two)


def test_shared_hidden_states_predict_each_response_token():
    model = LanguageModel(config_of("llama"))
    params = loud_params(model)
    found, expected = jax.jit(
        lambda p: (
            shared_prefix_hidden(model, p, *ROWS),
            separate("hidden", model, p)[:, :, :-1],
        )
    )(params)
    both = (jnp.where(RESPONSE_VALID[..., None], x, 0.0) for x in (found, expected))
    np.testing.assert_allclose(*both, atol=1e-5)


def test_scores_are_values_at_the_last_token_for_stacked_and_unstacked_layers():
    model = ScalarModel(config_of("llama"))
    params = loud_params(model)
    names = ("prompts", "prompt_valid", "responses", "response_valid")
    batch = dict(zip(names, ROWS, strict=True))

    @jax.jit
    def all_three(params):
        values = separate(None, model, params)[:, :, 1:]
        expected = last_values(values.reshape(-1, R), RESPONSE_VALID.reshape(-1, R))
        forms = (params, unstack_layers(params))
        return expected, [ranking_scores(model, form, batch) for form in forms]

    expected, found = all_three(params)
    for scores in found:
        np.testing.assert_allclose(scores.reshape(-1), expected, atol=1e-5)


def test_the_prompt_is_computed_once():
    """Products count: P + K R rows, not K (P + R)."""
    model = ScalarModel(config_of("llama"))
    params = loud_params(model)

    def flops(function):
        cost = jax.jit(function).lower(params).compile().cost_analysis()
        return cost["flops"]

    shared = flops(lambda p: shared_prefix_values(model, p, *ROWS))
    apart = flops(lambda p: separate(None, model, p))
    assert shared < 0.9 * apart

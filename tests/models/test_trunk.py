"""The trunk: what must not change a number, and what must not change its program."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import NAMES, assert_same_gradients, config_of, loud_params

from rlhf_jax.errors import InputError
from rlhf_jax.models import (
    LanguageModel,
    ScalarModel,
    TrunkConfig,
    cast_matrices,
    init_cache,
    init_params,
    stack_layers,
    unstack_layers,
)

B, T = 2, 9
ONE_OF_EACH = ("gpt2", "gpt_neox", "gemma2")
TOKENS = jax.random.randint(jax.random.key(3), (B, T), 0, 40)


@functools.cache
def model_of(family, **changes):
    model = LanguageModel(dataclasses.replace(config_of(family), **changes))
    return model, loud_params(model)


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, tokens, valid=None, **kwargs):
    return model.apply({"params": params}, tokens, valid, **kwargs)


@functools.cache
def plain(family):
    model, params = model_of(family)
    return np.asarray(logits_of(model, params, TOKENS))


def assert_same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("family", ONE_OF_EACH)
def test_padding_and_holes_change_nothing(family):
    """Left, right and a hole in the middle, filled with an id that does not exist."""
    model, params = model_of(family)
    slots = np.array([2, 3, 4, 6, 7, 8, 9, 10, 12])
    tokens = np.full((B, 15), 999, np.int32)
    tokens[:, slots] = TOKENS
    valid = np.zeros((B, 15), bool)
    valid[:, slots] = True
    found = logits_of(model, params, tokens, valid)
    assert_same(found[:, slots], plain(family))


@pytest.mark.parametrize("family", ONE_OF_EACH)
def test_packed_sequences_do_not_see_each_other(family):
    model, params = model_of(family)
    row = TOKENS.reshape(1, -1)
    segments = jnp.repeat(jnp.arange(B), T)[None]
    found = logits_of(model, params, row, segments=segments)
    assert_same(found.reshape(B, T, -1), plain(family))


@pytest.mark.parametrize("family", ONE_OF_EACH)
def test_positions_decide_not_slots(family):
    """Tokens in shuffled slots, each with its own position."""
    model, params = model_of(family)
    order = np.random.default_rng(0).permutation(T)
    positions = jnp.broadcast_to(jnp.asarray(order, jnp.int32), (B, T))
    found = logits_of(model, params, TOKENS[:, order], positions=positions)
    assert_same(found, plain(family)[:, order])


@pytest.mark.parametrize("unstacked", [False, True])
@pytest.mark.parametrize("family", ONE_OF_EACH)
def test_cached_reading_is_a_full_forward(family, unstacked):
    """A prefill of 4, then one by one; each row in slots of its own."""
    model, params = model_of(family)
    params = unstack_layers(params) if unstacked else params
    cache = init_cache(model.config, B, 16, unstacked=unstacked)
    first = jnp.array([0, 3], jnp.int32)
    found, cache = logits_of(
        model, params, TOKENS[:, :4], cache=cache, cache_index=first
    )
    parts = [found]
    for i in range(4, T):
        found, cache = logits_of(
            model, params, TOKENS[:, i : i + 1], cache=cache, cache_index=first + i
        )
        parts.append(found)
    assert_same(jnp.concatenate(parts, axis=1), plain(family))


def test_a_scalar_cache_index_writes_the_same_slot_of_all_rows():
    model, params = model_of("gpt2")
    cache = init_cache(model.config, B, T)
    found, cache = logits_of(model, params, TOKENS, cache=cache, cache_index=0)
    assert_same(found, plain("gpt2"))
    assert bool(cache.valid.all())


@pytest.mark.parametrize("remat", ["none", "full"])
def test_what_is_kept_changes_no_gradient_but_the_memory(remat):
    model, params = model_of("llama", num_layers=6)
    other = LanguageModel(dataclasses.replace(model.config, remat=remat))
    tokens = jnp.tile(TOKENS, (8, 6))

    def compiled(model):
        loss = lambda p: jnp.square(model.apply({"params": p}, tokens)).mean()  # noqa: E731
        return jax.jit(jax.grad(loss)).lower(params).compile()

    usual, changed = compiled(model), compiled(other)
    assert_same_gradients(changed(params), usual(params))
    sizes = [p.memory_analysis().temp_size_in_bytes for p in (changed, usual)]
    assert sizes[0] > sizes[1] if remat == "none" else sizes[0] < sizes[1]


def test_a_model_in_the_compute_dtype_gives_the_same_bits():
    """Frozen models need no float32 copy; norms, biases and heads stay as they are."""
    model, params = model_of("gpt2", dtype="bfloat16")
    light = cast_matrices(params, "bfloat16")
    np.testing.assert_array_equal(
        logits_of(model, params, TOKENS), logits_of(model, light, TOKENS)
    )
    scalar = ScalarModel(model.config)
    params = loud_params(scalar)
    light = cast_matrices({"reward": params}, "bfloat16")["reward"]
    assert light["head"]["kernel"].dtype == jnp.float32
    assert light["trunk"]["layers"]["mlp"]["up"]["kernel"].dtype == jnp.bfloat16
    assert light["trunk"]["layers"]["mlp"]["up"]["bias"].dtype == jnp.float32
    values = [jax.jit(scalar.apply)({"params": p}, TOKENS) for p in (params, light)]
    np.testing.assert_array_equal(*values)


def test_older_files_say_remat_by_true_and_false():
    named = [TrunkConfig(8, 8, 8, 1, 1, remat=value).remat for value in (True, False)]
    assert named == ["products", "none"]
    with pytest.raises(InputError, match="remat is 'some'"):
        TrunkConfig(8, 8, 8, 1, 1, remat="some")


@pytest.mark.parametrize("family", NAMES)
def test_scan_with_recomputation_has_the_gradients_of_plain_layers(family):
    """Against layers one by one, everything stored."""
    model, params = model_of(family)
    bare = LanguageModel(dataclasses.replace(model.config, remat="none"))

    def loss(params, model):
        return jnp.square(model.apply({"params": params}, TOKENS)).mean()

    @jax.jit
    def both(params):
        scanned = jax.grad(loss)(params, model)
        return scanned, jax.grad(lambda p: loss(unstack_layers(p), bare))(params)

    assert_same_gradients(*both(params))


def test_the_program_does_not_grow_with_depth():
    def program(num_layers):
        config = dataclasses.replace(config_of("llama"), num_layers=num_layers)
        model = LanguageModel(config)
        params = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))

        def loss(params, tokens):
            return model.apply({"params": params}, tokens).sum()

        return jax.jit(jax.grad(loss)).lower(params, TOKENS).as_text().count("\n")

    assert program(2) == program(24)


def test_stacking_undoes_unstacking():
    _, params = model_of("gpt2")
    again = stack_layers(unstack_layers(params))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), params, again))


def test_a_valid_token_outside_the_vocabulary_gives_nan():
    model, params = model_of("gpt2")
    found = logits_of(model, params, TOKENS.at[0, 4].set(40))
    assert jnp.isnan(found[0, 4:]).all() and jnp.isfinite(found[1]).all()


def test_dropout_acts_only_when_asked_and_follows_its_key():
    model, params = model_of("gpt2", residual_dropout=0.5)
    assert_same(logits_of(model, params, TOKENS), plain("gpt2"))

    @jax.jit
    def noisy(key):
        rngs = {"dropout": key}
        variables = {"params": params}
        return model.apply(variables, TOKENS, deterministic=False, rngs=rngs)

    one, two = noisy(jax.random.key(0)), noisy(jax.random.key(1))
    assert (one == noisy(jax.random.key(0))).all()
    assert jnp.abs(one - two).max() > 0.1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_near_float32_with_float32_gradients(dtype):
    model, params = model_of("gemma2", dtype=dtype)
    logits = logits_of(model, params, TOKENS)
    assert logits.dtype == jnp.float32
    assert np.abs(logits - plain("gemma2")).max() < 0.1 * np.abs(plain("gemma2")).max()
    grads = jax.jit(
        jax.grad(lambda p: jnp.square(model.apply({"params": p}, TOKENS)).mean())
    )(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {np.dtype("float32")}
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(grads))


def test_more_tokens_than_positions_are_refused():
    model = LanguageModel(TrunkConfig(40, 8, 16, 1, 2))
    with pytest.raises(ValueError, match="9 tokens, but the context is 8"):
        jax.eval_shape(lambda p: model.apply({"params": p}, TOKENS), loud_params(model))
    one = jnp.ones(TOKENS.shape, jnp.int32)  # packed rows, too, end with the context
    with pytest.raises(ValueError, match="9 tokens, but the context is 8"):
        jax.eval_shape(
            lambda p: model.apply({"params": p}, TOKENS, segments=one),
            loud_params(model),
        )


def test_common_tokens_need_segments_and_no_cache():
    model, params = model_of("gpt2")
    first = jnp.zeros(TOKENS.shape, bool).at[:, 0].set(True)
    for more in ({}, {"segments": jnp.zeros(TOKENS.shape, jnp.int32)}):
        if more:
            more |= {"cache": init_cache(model.config, B, 16), "cache_index": 0}
        with pytest.raises(ValueError, match="common needs segments"):
            jax.eval_shape(
                lambda p, more=more: model.apply(
                    {"params": p}, TOKENS, common=first, **more
                ),
                params,
            )


def test_responses_behind_common_tokens_may_fill_more_than_the_context():
    """Positions count: 3 common tokens and segments of 3 fit a context of 8."""
    model = LanguageModel(TrunkConfig(40, 8, 16, 1, 2))
    params = loud_params(model)
    segments = jnp.broadcast_to(jnp.array([0, 0, 0, 0, 0, 0, 1, 1, 1]), TOKENS.shape)
    common = jnp.broadcast_to(jnp.arange(T) < 3, TOKENS.shape)
    apply = jax.jit(lambda p, tokens, **k: model.apply({"params": p}, tokens, **k))
    found = apply(params, TOKENS, segments=segments, common=common)
    alone = apply(params, jnp.concatenate([TOKENS[:, :3], TOKENS[:, 6:]], axis=1))
    assert_same(found[:, 6:], alone[:, 3:])

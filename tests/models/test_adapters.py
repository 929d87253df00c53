"""LoRA beside a frozen base, against the model whose matrices were really changed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.errors import InputError
from rlhf_jax.models import (
    LanguageModel,
    LoRA,
    ScalarModel,
    TrunkConfig,
    adapted,
    adapter_of,
    base_params,
    cast_matrices,
    init_adapter,
    init_params,
    leaf_paths,
    merged,
    stack_layers,
    unstack_layers,
)
from rlhf_jax.parallel.compiled_text import product_flops
from rlhf_jax.sampling import SamplingSpec, generate
from rlhf_jax.stages.likelihood import make_loss
from rlhf_jax.training.gradients import with_weights

GPT2 = TrunkConfig(31, 24, 16, 3, 2)
LLAMA = dataclasses.replace(
    GPT2,
    num_kv_heads=1,
    positions="rotary",
    norm="rms",
    gated_mlp=True,
    activation="silu",
    qkv_bias=False,
    out_bias=False,
    mlp_bias=False,
    tied_unembedding=False,
)
CONFIGS = {"gpt2": GPT2, "llama": LLAMA}
LORA = LoRA(rank=3, alpha=7.0, base_dtype="float32")


def draw(model, lora=LORA, seed=0):
    """A base and an adapter that changes much: B is not 0."""
    keys = jax.random.split(jax.random.key(seed), 3)
    base = base_params(jax.jit(lambda: init_params(model, keys[0]))(), lora.base_dtype)
    base = jax.tree.map(lambda leaf: leaf * 2, base)
    adapter = init_adapter(lora, base, keys[1])
    noise = lambda leaf: leaf + 0.1 * jax.random.normal(keys[2], leaf.shape)  # noqa: E731
    return base, jax.tree.map(noise, adapter)


def changed(base, adapter, lora):
    """W + s A B of every matrix, in float64 NumPy; the only oracle of what LoRA is."""
    base = jax.tree.map(np.asarray, base)
    root = lora.rank**0.5 if lora.rslora else lora.rank
    for path, pair in pairs(adapter):
        node = base
        for name in path[:-1]:
            node = node[name]
        a, b = (np.asarray(pair[f"lora_{x}"], np.float64) for x in "ab")
        whole = np.stack(
            [
                w + lora.alpha / root * (x @ y)
                for w, x, y in zip(node[path[-1]], a, b, strict=True)
            ]
        )
        node[path[-1]] = jnp.asarray(whole, jnp.float32)
    return jax.tree.map(jnp.asarray, base)


def pairs(tree, path=()):
    if "lora_a" in tree:
        yield path, tree
        return
    for name, part in tree.items():
        yield from pairs(part, (*path, name))


def batch_of(config, rows=3, length=11):
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (rows, length))
    lengths = np.array([length, 5, 8])[:, None]
    valid = jnp.asarray(np.arange(length) < lengths)
    return with_weights(
        {"tokens": jnp.asarray(tokens, jnp.int32), "valid": valid, "mask": valid}
    )


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_loss_and_gradients_are_those_of_the_merged_model(name, rslora):
    model = LanguageModel(CONFIGS[name])
    lora = dataclasses.replace(LORA, rslora=rslora)
    base, adapter = draw(model, lora)
    loss, batch = make_loss(model), batch_of(model.config)

    def whole(params):
        return loss(params, batch, jax.random.key(0))[0]

    found = jax.jit(jax.value_and_grad(lambda tree: whole(adapted(base, tree, lora))))(
        adapter
    )
    value, gradient = jax.jit(jax.value_and_grad(whole))(changed(base, adapter, lora))
    np.testing.assert_allclose(found[0], value, rtol=1e-5)
    seen = 0
    for path, pair in pairs(found[1]):
        by_matrix = gradient
        for key in path:
            by_matrix = by_matrix[key]
        own = adapter
        for key in path:
            own = own[key]
        for got, expected in (
            (pair["lora_a"], lora.scale * by_matrix @ own["lora_b"].swapaxes(1, 2)),
            (pair["lora_b"], lora.scale * own["lora_a"].swapaxes(1, 2) @ by_matrix),
        ):
            size = float(jnp.linalg.norm(expected))
            assert float(jnp.linalg.norm(got - expected)) <= 1e-5 * size, path
            seen += size > 0
    assert seen == 2 * (6 if name == "gpt2" else 7)


@pytest.mark.parametrize("unrolled", [False, True])
def test_what_is_sampled_is_what_the_merged_model_writes(unrolled):
    model = LanguageModel(LLAMA)
    base, adapter = draw(model)
    spec = SamplingSpec(max_new_tokens=9, end_tokens=(0,), pad_token=0)
    prompts = jnp.asarray(np.random.default_rng(1).integers(1, 31, (4, 6)), jnp.int32)

    def written(params):
        params = (unstack_layers if unrolled else stack_layers)(params)
        rows = jnp.ones(prompts.shape, bool), jnp.arange(4)
        with jax.numpy_dtype_promotion("standard"):  # of the sampler
            return generate(model, params, prompts, *rows, jax.random.key(0), spec)

    found = written(adapted(base, adapter, LORA))
    expected = written(changed(base, adapter, LORA))
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_allclose(found.logprobs, expected.logprobs, atol=1e-4)
    assert (found.tokens != written(base).tokens).any()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_fresh_adapter_changes_no_bit(name):
    model = LanguageModel(CONFIGS[name])
    base, _ = draw(model)
    fresh = init_adapter(LORA, base, jax.random.key(5))
    tokens = batch_of(model.config)["tokens"]
    run = jax.jit(lambda params: model.apply({"params": params}, tokens))
    np.testing.assert_array_equal(run(adapted(base, fresh, LORA)), run(base))


def test_merging_and_the_oracle_are_one():
    base, adapter = draw(LanguageModel(LLAMA))
    found = leaf_paths(merged(adapted(base, adapter, LORA)))
    expected = leaf_paths(changed(base, adapter, LORA))
    assert found.keys() == expected.keys()
    for path, leaf in expected.items():
        np.testing.assert_allclose(found[path], leaf, atol=1e-5, err_msg=path)


def test_the_arrays_of_the_base_are_held_and_not_copied():
    base, adapter = draw(LanguageModel(LLAMA))
    whole = adapted(base, adapter, LORA)
    held = {id(leaf) for leaf in jax.tree.leaves(whole)}
    parts = {id(leaf) for leaf in jax.tree.leaves((base, adapter))}
    assert held == parts


def test_no_product_is_spent_on_a_gradient_of_the_base():
    model = LanguageModel(dataclasses.replace(GPT2, embed_dim=64, num_heads=4))
    base, adapter = draw(model)
    loss, batch = make_loss(model), batch_of(model.config)

    def flops(function, argument):
        compiled = jax.jit(jax.grad(function)).lower(argument).compile()
        return product_flops(compiled.as_text())

    of_all = flops(lambda p: loss(p, batch, jax.random.key(0))[0], base)
    of_adapter = flops(
        lambda t: loss(adapted(base, t, LORA), batch, jax.random.key(0))[0], adapter
    )
    tokens = batch["tokens"].size
    of_matrices = sum(
        2 * tokens * leaf.size
        for path, leaf in leaf_paths(base).items()
        if path.endswith("kernel")
    )
    of_pairs = sum(2 * tokens * leaf.size for leaf in jax.tree.leaves(adapter))
    # none of the frozen matrices' own gradients, three products of each narrow one
    assert of_adapter <= of_all - of_matrices + 3 * of_pairs


def test_a_head_is_trained_whole_and_takes_the_place_of_the_unembedding():
    language, scalar = LanguageModel(LLAMA), ScalarModel(LLAMA)
    base, adapter = draw(language)
    head = jax.jit(lambda: init_params(scalar, jax.random.key(3))["head"])()
    whole = adapted(base, adapter | {"head": head}, LORA)
    assert whole.keys() == {"trunk", "head"}
    tokens = batch_of(LLAMA)["tokens"]
    expected = {"trunk": changed(base, adapter, LORA)["trunk"], "head": head}
    np.testing.assert_allclose(
        scalar.apply({"params": whole}, tokens),
        scalar.apply({"params": expected}, tokens),
        atol=1e-5,
    )
    assert adapter_of(whole).keys() == {"trunk", "head"}


def test_an_adapter_survives_being_laid_and_taken_off():
    base, adapter = draw(LanguageModel(LLAMA))
    again = adapter_of(adapted(base, adapter, LORA))
    assert leaf_paths(again).keys() == leaf_paths(adapter).keys()
    assert all(
        leaf_paths(again)[k] is leaf_paths(adapter)[k] for k in leaf_paths(again)
    )
    assert adapter_of(adapter).keys() == adapter.keys()


def test_dropout_falls_on_the_change_alone_and_is_right_in_the_mean():
    model = LanguageModel(GPT2)
    lora = dataclasses.replace(LORA, dropout=0.5, targets="layers/mlp/down")
    base, adapter = draw(model, lora)
    adapter = jax.tree.map(lambda leaf: leaf * 0.05, adapter)  # nearly linear
    tokens = batch_of(GPT2)["tokens"]

    @jax.jit
    def run(rng):
        params = adapted(base, adapter, lora, rng)
        return model.apply({"params": params}, tokens)

    plain = model.apply({"params": adapted(base, adapter, lora)}, tokens)
    without = model.apply({"params": base}, tokens)
    some = jax.vmap(run)(jax.random.split(jax.random.key(0), 400))
    assert float(some.std(axis=0).max()) > 0
    off = jnp.abs(some.mean(axis=0) - plain).max()
    assert off < 0.15 * jnp.abs(plain - without).max()
    fresh = jax.tree.map(jnp.zeros_like, adapter)
    still = model.apply(
        {"params": adapted(base, fresh, lora, jax.random.key(1))}, tokens
    )
    np.testing.assert_array_equal(still, without)


def test_a_base_in_bfloat16_is_the_model_rounded_once():
    model = LanguageModel(LLAMA)
    lora = dataclasses.replace(LORA, base_dtype="bfloat16")
    full = jax.jit(lambda: init_params(model, jax.random.key(0)))()
    base = base_params(full, "bfloat16")
    assert base["trunk"]["final_norm"]["scale"].dtype == jnp.float32
    assert base["trunk"]["layers"]["mlp"]["up"]["kernel"].dtype == jnp.bfloat16
    adapter = init_adapter(lora, base, jax.random.key(1))
    tokens = batch_of(LLAMA)["tokens"]
    rounded = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float32), cast_matrices(full, "bfloat16")
    )
    np.testing.assert_array_equal(
        model.apply({"params": adapted(base, adapter, lora)}, tokens),
        model.apply({"params": rounded}, tokens),
    )


def test_the_targets_are_those_of_the_expression_or_there_is_an_error():
    base, _ = draw(LanguageModel(LLAMA))
    some = init_adapter(
        dataclasses.replace(LORA, targets="attention/(query|value)"),
        base,
        jax.random.key(0),
    )
    assert {path[3] for path, _ in pairs(some)} == {"query", "value"}
    with pytest.raises(InputError, match="'q_proj' is found in no matrix; there are"):
        init_adapter(
            dataclasses.replace(LORA, targets="q_proj"), base, jax.random.key(0)
        )
    with pytest.raises(InputError, match="rank: 16 is not below both sides"):
        init_adapter(dataclasses.replace(LORA, rank=16), base, jax.random.key(0))


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"rank": 0}, "rank: 0"),
        ({"alpha": 0.0}, "alpha: 0.0"),
        ({"dropout": 1.0}, "dropout: 1.0"),
        ({"base_dtype": "int4"}, "base_dtype: 'int4'"),
        ({"targets": "("}, "targets: '('"),
    ],
)
def test_settings_that_cannot_work_are_told(changes, told):
    problems = list(dataclasses.replace(LORA, **changes).problems())
    assert len(problems) == 1 and problems[0].startswith(told)

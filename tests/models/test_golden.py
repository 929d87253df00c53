"""Every family against transformers' numbers, from files made once with torch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.models import last_values, load_pretrained, save_pretrained

FAMILIES = (
    "gpt2",
    "gpt_neox",
    "gpt_neox_serial",
    "llama",
    "llama3",
    "llama_yarn",
    "llama_linear",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3",
)


@functools.partial(jax.jit, static_argnums=0)
def output(model, params, tokens, valid=None):
    return model.apply({"params": params}, tokens, valid)


def relative_gap(found, expected):
    """Largest difference over the largest expected number."""
    return np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers(golden, family):
    loaded = load_pretrained(golden / f"{family}_lm")
    expected = np.load(golden / f"{family}_lm" / "expected.npz")
    logits = output(loaded.model, loaded.params, expected["tokens"])
    assert loaded.kind == "lm"
    assert relative_gap(logits, expected["logits"]) <= 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_transformers_for_any_padding(golden, family):
    """Reward models, stored in bfloat16; rows of 20, 7 and 1 tokens, padded left."""
    loaded = load_pretrained(golden / f"{family}_scalar")
    expected = np.load(golden / f"{family}_scalar" / "expected.npz")
    tokens, lengths = expected["tokens"], expected["lengths"]
    padded, valid = np.full_like(tokens, 77), np.zeros(tokens.shape, bool)
    for row, length in enumerate(lengths):
        padded[row, -length:], valid[row, -length:] = tokens[row, :length], True
    values = output(loaded.model, loaded.params, padded, valid)
    assert loaded.kind == "scalar"
    scores = last_values(values, jnp.asarray(valid))
    assert relative_gap(scores, expected["scores"]) <= 1e-4


@pytest.mark.parametrize("kind", ["lm", "scalar"])
@pytest.mark.parametrize("family", FAMILIES)
def test_export_and_import_keep_every_bit(golden, family, kind, tmp_path):
    first = load_pretrained(golden / f"{family}_{kind}")
    save_pretrained(tmp_path, first.config, first.params, family=first.family)
    second = load_pretrained(tmp_path)
    assert second.config == first.config
    assert second.kind == kind
    equal = jax.tree.map(lambda a, b: bool((a == b).all()), first.params, second.params)
    assert all(jax.tree.leaves(equal))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["lm", "scalar"])
def test_live_numbers_of_transformers(family, kind, tmp_path):
    """Fresh weights, both libraries in one process; needs torch."""
    pytest.importorskip("torch", reason="torch is absent: golden files stand in")
    import tiny_transformers as tiny

    model = tiny.model(family, kind, seed=1)
    model.save_pretrained(tmp_path)
    ids = tiny.tokens(rows=3, seed=1)
    loaded = load_pretrained(tmp_path)
    out = output(loaded.model, loaded.params, ids.numpy().astype("int32"))
    if kind == "lm":
        assert relative_gap(out, tiny.logits(model, ids).numpy()) <= 1e-4
    else:
        expected = tiny.scores(model, ids, [20, 20, 20]).numpy()
        assert relative_gap(out[:, -1], expected) <= 1e-4

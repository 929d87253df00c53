"""Pretraining: the likelihood, its evaluation, and going on from a model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.models import LanguageModel, TrunkConfig, init_params
from rlhf_jax.registry.directories import load_model
from rlhf_jax.stages import pretrain
from rlhf_jax.stages.likelihood import make_loss, make_perplexity

MODEL = LanguageModel(TrunkConfig(23, 16, 16, 1, 2))


@pytest.fixture(scope="module")
def params():
    return jax.jit(lambda: init_params(MODEL, jax.random.key(0)))()


def batch_of(seed, lengths):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 23, (len(lengths), 7)).astype(np.int32)
    valid = np.arange(7) < np.array(lengths)[:, None]
    mask = valid & (np.arange(7) > 2)
    return {"tokens": tokens, "valid": valid, "mask": mask, "row": lengths}


def nats(params, batch):
    """-log p of each trained token, row by row in float64."""
    found = []
    for tokens, valid, mask in zip(
        batch["tokens"], batch["valid"], batch["mask"], strict=True
    ):
        if not mask.any():
            continue
        row = jnp.asarray(tokens[valid])[None]
        logits = np.asarray(MODEL.apply({"params": params}, row)[0], np.float64)
        for t in np.flatnonzero(mask):
            shifted = logits[t - 1] - logits[t - 1].max()
            found.append(np.log(np.exp(shifted).sum()) - shifted[tokens[t]])
    return found


def test_the_loss_is_the_mean_over_trained_tokens(params):
    batch = batch_of(0, [7, 4, 6])
    whole = {n: jnp.asarray(v) for n, v in batch.items() if n != "row"}
    whole["weights"] = whole["mask"] / whole["mask"].sum()
    loss, metrics = jax.jit(make_loss(MODEL))(params, whole, jax.random.key(0))
    wanted = nats(params, batch)
    np.testing.assert_allclose(loss, np.mean(wanted), rtol=1e-5)
    assert metrics["trained_tokens"] == len(wanted)


def test_perplexity_weighs_tokens_and_not_batches(params):
    batches = [batch_of(1, [7, 7, 7]), batch_of(2, [4, 0, 0])]
    found = make_perplexity(MODEL)(params, batches)
    wanted = [n for batch in batches for n in nats(params, batch)]
    assert found["tokens"] == len(wanted)
    assert found["nats_per_token"] == pytest.approx(np.mean(wanted), rel=1e-5)


def test_the_stage_learns_and_measures_on_held_out_text(tiny):
    rows = tiny.metrics("pretrain")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["loss"] < rows[0]["loss"]
    measured = [row["step"] for row in rows if "valid/nats_per_token" in row]
    assert measured == [3, 6]


def test_a_fresh_model_has_the_vocabulary_of_its_tokenizer(tiny):
    start = pretrain.starting_point(tiny.config("pretrain"))
    assert start.model.config.vocab_size == start.tokenizer.vocab_size
    again = pretrain.starting_point(tiny.config("pretrain"))
    jax.tree.map(np.testing.assert_array_equal, start.params, again.params)


def test_pretraining_can_go_on_from_a_model(tiny):
    config = tiny.config("pretrain", init=str(tiny.done("pretrain") / "model"))
    start = pretrain.starting_point(config)
    kept = load_model(tiny.done("pretrain") / "model")
    jax.tree.map(np.testing.assert_array_equal, start.params, kept.params)

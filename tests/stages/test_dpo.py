"""DPO over all untied pairs, against a loop over pairs in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.losses import normalize
from rlhf_jax.models import LanguageModel, TrunkConfig, init_params
from rlhf_jax.stages import dpo

MODEL = LanguageModel(TrunkConfig(23, 16, 16, 1, 2))
RANKS = np.array([[1, 2, 2], [3, 1, 2], [1, 1, 1]])
PRESENT = np.array([[1, 1, 1], [1, 1, 0], [1, 1, 1]], bool)
BETA = 0.3


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 5, (3, 3))
    mask = jnp.array([True, True, False])
    return {
        "prompts": jnp.asarray(rng.integers(0, 23, (3, 5)), jnp.int32),
        "prompt_valid": jnp.asarray(np.arange(5) >= np.array([[0], [3], [1]])),
        "responses": jnp.asarray(rng.integers(0, 23, (3, 3, 4)), jnp.int32),
        "response_valid": jnp.asarray(np.arange(4) < lengths[..., None]),
        "ranks": jnp.asarray(RANKS, jnp.int32),
        "present": jnp.asarray(PRESENT),
        "mask": mask,
        "weights": normalize(mask),
    }


@pytest.fixture(scope="module")
def params():
    make = jax.jit(lambda seed: init_params(MODEL, jax.random.key(seed)))
    return [jax.tree.map(lambda leaf: leaf * 3.0, make(seed)) for seed in (0, 1)]


def logprob(params, batch, i, k):
    """log π(y_k | x_i) of the row alone, in float64."""
    prompt = np.asarray(batch["prompts"][i])[np.asarray(batch["prompt_valid"][i])]
    valid = np.asarray(batch["response_valid"][i, k])
    response = np.asarray(batch["responses"][i, k])[valid]
    tokens = jnp.asarray(np.concatenate([prompt, response]))[None]
    logits = np.asarray(MODEL.apply({"params": params}, tokens)[0], np.float64)
    logits = logits[len(prompt) - 1 : -1]
    shifted = logits - logits.max(axis=1, keepdims=True)
    logprobs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logprobs[np.arange(len(response)), response].sum()


def test_the_loss_is_that_of_the_loop_over_pairs(params, batch):
    policy, reference = params
    prompts = []
    for i in (0, 1):  # the third has only ties
        margins = [
            logprob(policy, batch, i, k) - logprob(reference, batch, i, k)
            for k in range(3)
        ]
        pairs = [
            np.log1p(np.exp(-BETA * (margins[a] - margins[b])))
            for a in range(3)
            for b in range(3)
            if PRESENT[i, a] and PRESENT[i, b] and RANKS[i, a] < RANKS[i, b]
        ]
        prompts.append(np.mean(pairs))
    loss_fn = jax.jit(dpo.make_loss(MODEL, BETA))
    loss, metrics = loss_fn(policy, batch, jax.random.key(0), reference)
    np.testing.assert_allclose(loss, np.mean(prompts), rtol=1e-4)
    assert 0.0 <= metrics["accuracy"] <= 1.0


def test_at_the_reference_the_loss_is_log_two_and_the_margin_zero(params, batch):
    policy, _ = params
    loss_fn = jax.jit(dpo.make_loss(MODEL, BETA))
    loss, metrics = loss_fn(policy, batch, jax.random.key(0), policy)
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(metrics["margin"], 0.0, atol=1e-6)


def test_a_prompt_whose_responses_all_tie_trains_nothing(params, batch):
    policy, reference = params
    tied = dict(batch, ranks=jnp.ones_like(batch["ranks"]))
    tied["mask"] = jnp.zeros(3, bool)
    tied["weights"] = normalize(tied["mask"])
    loss_fn = dpo.make_loss(MODEL, BETA)
    gradient = jax.jit(
        jax.grad(lambda p: loss_fn(p, tied, jax.random.key(0), reference)[0])
    )
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradient(policy)))


@pytest.mark.slow
def test_the_stage_trains_a_policy(tiny):
    rows = tiny.metrics("dpo")
    assert rows[0]["loss"] == pytest.approx(np.log(2), abs=1e-3)
    assert tiny.model("dpo").meta["stage"] == "dpo"

"""The terms of a PPO update against loops in float64, and the first minibatch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.experience.assess import make_assess
from rlhf_jax.losses import normalize
from rlhf_jax.models import (
    LanguageModel,
    ScalarModel,
    TrunkConfig,
    init_params,
    responses,
)
from rlhf_jax.models.responses import response_scores, response_statistics
from rlhf_jax.stages import ppo

SHAPE = TrunkConfig(29, 16, 16, 1, 2)
POLICY, VALUE = LanguageModel(SHAPE), ScalarModel(SHAPE)
TEMPERATURE, PTX_COEF = 0.7, 3.0
CONFIG = ppo.Config(
    init="",
    reward="",
    prompts=("p",),
    texts=("t",),
    temperature=TEMPERATURE,
    ptx_coef=PTX_COEF,
    value_coef=0.3,
)
ROWS, PROMPT, RESPONSE = 4, 5, 6


@pytest.fixture(scope="module")
def params():
    keys = jax.random.split(jax.random.key(0), 4)
    make = jax.jit(
        lambda keys: {
            "policy": init_params(POLICY, keys[0]),
            "reference": init_params(POLICY, keys[1]),
            "value": init_params(VALUE, keys[2]),
            "reward": init_params(VALUE, keys[3]),
        }
    )
    # larger weights, so that distributions differ and ratios leave the clip range
    return jax.tree.map(lambda leaf: leaf * 3.0, make(keys))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    lengths, prompts = np.array([6, 3, 1, 4]), np.array([5, 2, 3, 1])
    mask = np.arange(RESPONSE) < lengths[:, None]
    rollout = {
        "prompts": rng.integers(0, 29, (ROWS, PROMPT)).astype(np.int32),
        "valid": np.arange(PROMPT) >= PROMPT - prompts[:, None],
        "tokens": rng.integers(0, 29, (ROWS, RESPONSE)).astype(np.int32),
        "mask": mask,
        "old_logprobs": -3.5 + 0.5 * rng.normal(size=mask.shape),
        "old_values": rng.normal(size=mask.shape),
        "advantages": rng.normal(size=mask.shape),
        "returns": rng.normal(size=mask.shape),
    }
    rollout = {
        name: jnp.asarray(value, jnp.float32 if value.dtype.kind == "f" else None)
        for name, value in rollout.items()
    }
    ptx = {
        "tokens": jnp.asarray(rng.integers(0, 29, (3, 8)), jnp.int32),
        "valid": jnp.ones((3, 8), bool),
        "mask": jnp.ones((3, 8), bool).at[:, 0].set(False),
    }
    ptx["weights"] = normalize(ptx["mask"])
    rollout["weights"] = normalize(rollout["mask"])
    return {"rollout": rollout, "ptx": ptx, "policy_on": jnp.float32(1.0)}


@pytest.fixture(scope="module")
def terms(params, batch):
    """{term: (loss, metrics)} as the code computes them."""
    fns = ppo.make_loss(POLICY, VALUE, CONFIG)

    @jax.jit
    def all_terms(params, batch):
        rng = jax.random.key(0)
        return {name: fn(params, batch, rng) for name, fn in fns.items()}

    return all_terms(params, batch)


@pytest.fixture(scope="module")
def by_row(params, batch):
    """Logits and values of each row alone, without any padding, in float64."""
    rollout = jax.device_get(batch["rollout"])
    rows = []
    for i in range(ROWS):
        prompt = rollout["prompts"][i][rollout["valid"][i]]
        response = rollout["tokens"][i][rollout["mask"][i]]
        tokens = jnp.asarray(np.concatenate([prompt, response]))[None]
        logits = POLICY.apply({"params": params["policy"]}, tokens)[0]
        values = VALUE.apply({"params": params["value"]}, tokens)[0]
        scores = VALUE.apply({"params": params["reward"]}, tokens)[0]
        first = len(prompt) - 1
        rows.append(
            {
                "response": response,
                "logits": np.asarray(logits, np.float64)[first:-1],
                "values": np.asarray(values, np.float64)[first:-1],
                "score": float(scores[-1]),
            }
        )
    return rows


def log_softmax(logits):
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def logprobs_of(row, temperature=TEMPERATURE):
    return [
        log_softmax(logits / temperature)[token]
        for logits, token in zip(row["logits"], row["response"], strict=True)
    ]


def test_the_surrogate_is_that_of_the_loop(terms, batch, by_row):
    rollout = jax.device_get(batch["rollout"])
    losses, ratios = [], []
    for i, row in enumerate(by_row):
        for t, logprob in enumerate(logprobs_of(row)):
            ratio = np.exp(logprob - float(rollout["old_logprobs"][i, t]))
            advantage = float(rollout["advantages"][i, t])
            clipped = min(max(ratio, 0.8), 1.2)
            losses.append(-min(ratio * advantage, clipped * advantage))
            ratios.append(ratio)
    loss, metrics = terms["surrogate"]
    ratios = np.array(ratios)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-4)
    np.testing.assert_allclose(metrics["ratio"], ratios.mean(), rtol=1e-4)
    outside = np.mean(np.abs(ratios - 1) > 0.2)
    assert outside > 0
    np.testing.assert_allclose(metrics["clip_fraction"], outside, rtol=1e-5)
    update_kl = np.mean(ratios - 1 - np.log(ratios))
    np.testing.assert_allclose(metrics["update_kl"], update_kl, rtol=1e-4)


def test_the_value_error_is_that_of_the_loop(terms, batch, by_row):
    rollout = jax.device_get(batch["rollout"])
    errors = []
    for i, row in enumerate(by_row):
        for t, value in enumerate(row["values"]):
            old, wanted = (float(rollout[n][i, t]) for n in ("old_values", "returns"))
            clipped = min(max(value, old - 0.2), old + 0.2)
            errors.append(max((value - wanted) ** 2, (clipped - wanted) ** 2) / 2)
    np.testing.assert_allclose(
        terms["value_error"][0], 0.3 * np.mean(errors), rtol=1e-4
    )


def test_the_pretraining_term_is_gamma_times_the_likelihood(terms, params, batch):
    tokens = np.asarray(batch["ptx"]["tokens"])
    logits = POLICY.apply({"params": params["policy"]}, batch["ptx"]["tokens"])
    nats = [
        -log_softmax(np.asarray(logits[i, t], np.float64))[tokens[i, t + 1]]
        for i in range(3)
        for t in range(7)
    ]
    loss, metrics = terms["ptx"]
    np.testing.assert_allclose(loss, PTX_COEF * np.mean(nats), rtol=1e-4)
    np.testing.assert_allclose(metrics["ptx_nats_per_token"], np.mean(nats), rtol=1e-4)


def test_without_gamma_there_is_no_pretraining_term():
    import dataclasses

    config = dataclasses.replace(CONFIG, ptx_coef=0.0, texts=())
    assert set(ppo.make_loss(POLICY, VALUE, config)) == {"surrogate", "value_error"}


def test_a_policy_at_rest_gets_no_gradient(params, batch):
    fns = ppo.make_loss(POLICY, VALUE, CONFIG)
    at_rest = dict(batch, policy_on=jnp.float32(0.0))

    def total(params):
        rng = jax.random.key(0)
        return sum(fn(params, at_rest, rng)[0] for fn in fns.values())

    gradient = jax.jit(jax.grad(total))(params)
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradient["policy"]))
    assert any(leaf.any() for leaf in jax.tree.leaves(gradient["value"]))


def check_assessment(params, batch, by_row):
    """What `make_assess` says, against each row alone."""
    samples = dict(batch["rollout"], finished=jnp.ones(ROWS, bool))
    assess = make_assess(POLICY, VALUE, VALUE, temperature=TEMPERATURE)
    found = jax.device_get(assess(params, samples))
    for i, row in enumerate(by_row):
        count = len(row["response"])
        np.testing.assert_allclose(
            found["old_logprobs"][i, :count], logprobs_of(row), rtol=1e-4, atol=1e-5
        )
        entropy = [
            -(np.exp(p) * p).sum()
            for p in (log_softmax(logits / TEMPERATURE) for logits in row["logits"])
        ]
        np.testing.assert_allclose(found["entropy"][i, :count], entropy, rtol=1e-4)
        np.testing.assert_allclose(
            found["old_values"][i, :count], row["values"], rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(found["scores"][i], row["score"], rtol=1e-4)


def test_the_assessment_is_that_of_each_row_alone(params, batch, by_row):
    check_assessment(params, batch, by_row)


def other_temperature(*models_and_rows, temperature):
    return responses.response_comparison(*models_and_rows, temperature=1.0)


def one_token_late(model, params, rows):
    mask = jnp.pad(rows["mask"], ((0, 0), (1, 0)), constant_values=True)[:, :-1]
    return {"scores": response_scores(model, params, dict(rows, mask=mask))}


@pytest.mark.parametrize(
    "name, mutation",
    [
        ("response_comparison", other_temperature),
        ("reward_scores", one_token_late),
        (
            "response_values",
            lambda m, p, rows: 1.0 - responses.response_values(m, p, rows),
        ),
    ],
)
def test_another_temperature_or_place_in_the_assessment_is_caught(
    monkeypatch, params, batch, by_row, name, mutation
):
    monkeypatch.setattr(f"rlhf_jax.experience.assess.{name}", mutation)
    with pytest.raises(AssertionError):
        check_assessment(params, batch, by_row)


def test_the_first_ratio_is_exactly_one_and_the_kl_to_itself_exactly_zero(
    params, batch
):
    surrogate = ppo.make_loss(POLICY, VALUE, CONFIG)["surrogate"]
    same = dict(params, reference=params["policy"])

    @jax.jit
    def first(params, batch):
        rollout = batch["rollout"]
        old = response_statistics(
            POLICY, params["policy"], rollout, temperature=TEMPERATURE
        ).logprobs
        now = dict(batch, rollout=dict(rollout, old_logprobs=old))
        return surrogate(params, now, jax.random.key(0)), old

    (_, metrics), _ = first(params, batch)
    assert metrics["clip_fraction"] == 0.0 and metrics["update_kl"] == 0.0
    np.testing.assert_allclose(metrics["ratio"], 1.0, rtol=1e-6)  # weights add to 1
    assess = make_assess(POLICY, None, VALUE, temperature=TEMPERATURE)
    found = assess(same, dict(batch["rollout"], finished=jnp.ones(ROWS, bool)))
    np.testing.assert_array_equal(found["old_logprobs"], found["ref_logprobs"])
    assert not np.where(found["mask"], found["exact_kl"], 0.0).any()

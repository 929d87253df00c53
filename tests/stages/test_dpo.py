"""DPO and its kin on rankings of K, against loops in float64 that share nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.losses import normalize
from rlhf_jax.models import LanguageModel, TrunkConfig, init_params
from rlhf_jax.stages import dpo
from rlhf_jax.training import OptimizerConfig, init_state, make_optimizer, make_update

MODEL = LanguageModel(TrunkConfig(23, 16, 16, 1, 2))
# the third prompt has only ties; the second has two responses
RANKS = np.array([[1, 2, 2], [3, 1, 2], [1, 1, 1], [2, 1, 3]])
PRESENT = np.array([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 1, 1]], bool)
TRAINED = (0, 1, 3)
BETA = 0.3
CONFIGS = {
    "dpo": dpo.Config(beta=BETA),
    "conservative": dpo.Config(beta=BETA, label_smoothing=0.2),
    "robust": dpo.Config(beta=BETA, label_smoothing=0.2, robust=True),
    "ipo": dpo.Config(loss="ipo", beta=BETA),
    "kto": dpo.Config(
        loss="kto", beta=BETA, desirable_weight=1.5, undesirable_weight=0.7
    ),
    "simpo": dpo.Config(loss="simpo", beta=1.7, margin=0.6),
    "orpo": dpo.Config(loss="orpo", odds_weight=0.8),
}


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 5, (4, 3)) * PRESENT
    mask = jnp.array([True, True, False, True])
    return {
        "prompts": jnp.asarray(rng.integers(0, 23, (4, 5)), jnp.int32),
        "prompt_valid": jnp.asarray(np.arange(5) >= np.array([[0], [3], [1], [2]])),
        "responses": jnp.asarray(rng.integers(0, 23, (4, 3, 4)), jnp.int32),
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


WIDTH = 9  # the longest prompt and response


def row(batch, i, k, asked):
    """Response k of prompt i behind a prompt, alone; which tokens it has, as a mask."""
    prompt, valid = (np.asarray(batch[n])[asked] for n in ("prompts", "prompt_valid"))
    there = np.asarray(batch["response_valid"])[i, k]
    response = np.asarray(batch["responses"])[i, k][there]
    tokens = np.zeros(WIDTH, np.int32)
    tokens[: valid.sum()] = prompt[valid]
    place = valid.sum() + np.arange(len(response))
    tokens[place] = response
    return tokens, np.isin(np.arange(WIDTH), place)


@pytest.fixture(scope="module")
def rows(batch):
    """tokens and mask [asked, i, k, WIDTH]: every response behind every prompt."""
    places = np.ndindex(4, 4, 3)
    made = [row(batch, i, k, asked) for asked, i, k in places]
    return tuple(
        np.stack(side).reshape(4, 4, 3, WIDTH) for side in zip(*made, strict=True)
    )


def logits_of(params, tokens):
    """Rows padded on the right: what stands behind a token is not seen by it."""
    flat = jnp.asarray(tokens).reshape(-1, WIDTH)
    return MODEL.apply({"params": params}, flat).reshape(*tokens.shape, -1)


@pytest.fixture(scope="module")
def tables(params, rows):
    """log π(y_ik | x_asked) [asked, i, k] of policy and reference, in float64."""
    tokens, mask = rows
    found = []
    for tree in params:
        logits = np.asarray(jax.jit(logits_of)(tree, tokens), np.float64)[..., :-1, :]
        said = np.take_along_axis(logits, tokens[..., 1:, None], -1)[..., 0]
        logprobs = said - np.log(np.exp(logits).sum(axis=-1))
        found.append((logprobs * mask[..., 1:]).sum(axis=-1))
    return found


def kl_of(tables):
    """KTO's z: each trained prompt with the responses of the next, in a circle."""
    ratios = tables[0] - tables[1]
    following = zip(TRAINED, TRAINED[1:] + TRAINED[:1], strict=True)
    return max(0.0, np.mean([ratios[a, i][PRESENT[i]].mean() for a, i in following]))


def softplus(x):
    return np.logaddexp(0.0, x)


def pair_loss(name, config, chosen, rejected, ref_chosen, ref_rejected, lengths):
    """The loss of one pair, written out; summed logprobs and lengths in tokens."""
    h = (chosen - ref_chosen) - (rejected - ref_rejected)
    e = config.label_smoothing
    p = chosen / lengths[0], rejected / lengths[1]
    odds = [q - np.log(1 - np.exp(q)) for q in p]
    return {
        "dpo": softplus(-BETA * h),
        "conservative": (1 - e) * softplus(-BETA * h) + e * softplus(BETA * h),
        "robust": ((1 - e) * softplus(-BETA * h) - e * softplus(BETA * h))
        / (1 - 2 * e),
        "ipo": (h - 1 / (2 * BETA)) ** 2,
        "simpo": softplus(-(1.7 * (p[0] - p[1]) - 0.6)),
        "orpo": -p[0] + 0.8 * softplus(odds[1] - odds[0]),
    }[name]


def oracle(name, logprobs, ref, lengths, z):
    """The mean over prompts of the mean over what counts of each."""
    config, prompts = CONFIGS[name], []
    for i in TRAINED:
        there = [k for k in range(3) if PRESENT[i, k]]
        if name == "kto":
            values = []
            for k in there:
                lead = sum(np.sign(RANKS[i, other] - RANKS[i, k]) for other in there)
                gain = BETA * (logprobs[i, k] - ref[i, k] - z)
                if lead > 0:
                    values.append(1.5 / (1 + np.exp(gain)))
                if lead < 0:
                    values.append(0.7 / (1 + np.exp(-gain)))
        else:
            values = [
                pair_loss(
                    name, config,
                    logprobs[i, w], logprobs[i, l], ref[i, w], ref[i, l],
                    (lengths[i, w], lengths[i, l]),
                )
                for w in there
                for l in there  # noqa: E741
                if RANKS[i, w] < RANKS[i, l]
            ]  # fmt: skip
        prompts.append(np.mean(values))
    return np.mean(prompts)


def slopes(function, at, step=1e-5):
    """∂ function / ∂ each number, by central differences in float64."""
    found = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        moved = np.zeros_like(at)
        moved[place] = step
        found[place] = (function(at + moved) - function(at - moved)) / (2 * step)
    return found


@pytest.fixture(scope="module")
def gradient_of_rows(rows):
    """(params, c [B, K]) -> ∇ Σ c_ik log π(y_ik | x_i), every row alone."""
    tokens, mask = (side[np.arange(4), np.arange(4)] for side in rows)

    def total(params, weights):
        logprobs = jax.nn.log_softmax(logits_of(params, tokens)[..., :-1, :])
        said = jnp.take_along_axis(logprobs, tokens[..., 1:, None], -1)[..., 0]
        return (weights[..., None] * said * mask[..., 1:]).sum()

    return jax.jit(jax.grad(total))


@functools.cache
def compiled(name):
    """(policy, reference, batch) -> ((loss, metrics), gradient), compiled once."""
    config = CONFIGS[name]
    loss_fn, baseline = dpo.make_loss(MODEL, config), dpo.kl_baseline(MODEL)

    def whole(policy, reference, batch):
        frozen = {"frozen": reference} if config.has_reference else {}
        if config.loss == "kto":
            batch = baseline(policy, batch, reference)
        function = jax.value_and_grad(loss_fn, has_aux=True)
        return function(policy, batch, jax.random.key(0), **frozen)

    return jax.jit(whole)


@pytest.mark.parametrize("name", CONFIGS)
def test_loss_and_gradient_are_those_of_the_loop(
    name, params, batch, tables, gradient_of_rows
):
    policy, reference = params
    logprobs, ref = (table[np.arange(4), np.arange(4)] for table in tables)
    lengths = np.asarray(batch["response_valid"].sum(axis=-1))
    z = kl_of(tables) if name == "kto" else 0.0
    assert name != "kto" or z > 0.1, "else z is not seen"
    (loss, metrics), gradient = compiled(name)(policy, reference, batch)
    np.testing.assert_allclose(loss, oracle(name, logprobs, ref, lengths, z), rtol=1e-4)
    if name == "kto":
        np.testing.assert_allclose(metrics["kl_baseline"], z, rtol=1e-4)
    weights = slopes(lambda at: oracle(name, at, ref, lengths, z), logprobs)
    wanted = gradient_of_rows(policy, jnp.asarray(weights, jnp.float32))
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(wanted))
    for got, want in zip(*map(jax.tree.leaves, (gradient, wanted)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("name", ["dpo", "kto", "orpo"])
def test_padding_and_absent_responses_change_nothing(name, params, batch):
    rng = np.random.default_rng(1)
    noise = {
        key: jnp.asarray(rng.integers(0, 23, batch[key].shape), jnp.int32)
        for key in ("prompts", "responses")
    }
    changed = dict(
        batch,
        prompts=jnp.where(batch["prompt_valid"], batch["prompts"], noise["prompts"]),
        responses=jnp.where(
            batch["response_valid"], batch["responses"], noise["responses"]
        ),
        ranks=jnp.where(batch["present"], batch["ranks"], 1),
    )
    # the row without an untied pair may be any row, or none
    changed["ranks"] = changed["ranks"].at[2].set(0)
    changed["present"] = changed["present"].at[2].set(False)
    before, after = (compiled(name)(*params, rows) for rows in (batch, changed))
    for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_any_cut_into_micro_batches_gives_the_same_update(params, batch):
    policy, reference = params
    tx = make_optimizer(OptimizerConfig(name="adam", learning_rate=1e-2), 1)
    rows = jax.jit(dpo.kl_baseline(MODEL))(policy, batch, reference)
    loss_fn = dpo.make_loss(MODEL, CONFIGS["kto"])
    state = init_state(policy, tx, jax.random.key(0))
    update = make_update(loss_fn, tx, microbatches=2)
    cut = jax.jit(update)(state, rows, reference)[1]
    (loss, metrics), _ = compiled("kto")(policy, reference, batch)
    for key, want in {"loss": loss, **metrics}.items():
        np.testing.assert_allclose(cut[key], want, rtol=1e-4)


def test_at_the_reference_the_loss_is_log_two_and_margin_and_kl_are_zero(params, batch):
    policy, _ = params
    (loss, metrics), _ = compiled("dpo")(policy, policy, batch)
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(metrics["margin"], 0.0, atol=1e-6)
    (_, metrics), _ = compiled("kto")(policy, policy, batch)
    np.testing.assert_allclose(metrics["kl_baseline"], 0.0, atol=1e-6)


def test_a_single_prompt_has_no_other_to_estimate_the_kl_by(params, batch):
    mask = jnp.array([True, False, False, False])
    alone = dict(batch, mask=mask, weights=normalize(mask))
    assert compiled("kto")(*params, alone)[0][1]["kl_baseline"] == 0.0


@pytest.mark.parametrize("name", ["dpo", "kto", "orpo"])
def test_a_prompt_whose_responses_all_tie_trains_nothing(name, params, batch):
    tied = dict(batch, ranks=jnp.ones_like(batch["ranks"]), mask=jnp.zeros(4, bool))
    tied["weights"] = normalize(tied["mask"])
    (loss, _), gradient = compiled(name)(*params, tied)
    assert loss == 0
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradient))

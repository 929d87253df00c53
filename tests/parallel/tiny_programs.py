"""The programs of the stages at a tiny size: what is updated, and what is assessed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.experience.assess import make_assess
from rlhf_jax.losses import chunked, ranking_loss, weighted_sum
from rlhf_jax.models import (
    LanguageModel,
    ScalarModel,
    TrunkConfig,
    init_params,
    responses,
)
from rlhf_jax.stages import likelihood, ppo
from rlhf_jax.stages.reward import ranking_scores
from rlhf_jax.training import OptimizerConfig, init_state, make_optimizer, make_update

# No other axis is B long, and a device's activations are smaller than the weights: so
# shapes tell what travels.
V, D, L, B, P, R, K = 80, 32, 2, 48, 2, 6, 2
CONFIG = TrunkConfig(V, 16, D, L, 8)
POLICY, SCALAR = LanguageModel(CONFIG), ScalarModel(CONFIG)
LARGEST_WEIGHT = max(V * D, 4 * D * D)
TX = make_optimizer(OptimizerConfig(learning_rate=1e-3), 10)


def tokens(seed, *shape):
    return np.random.default_rng(seed).integers(0, V, shape).astype(np.int32)


def numbers(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def some(seed, *shape):
    """A mask with a hole in most rows and something in each."""
    mask = np.random.default_rng(seed).random(shape) < 0.7
    mask[..., 0] = True
    return mask


@functools.cache
def params_of(model, seed=0):
    return jax.jit(lambda key: init_params(model, key))(jax.random.key(seed))


def texts():
    return {"tokens": tokens(1, B, P + R)} | {
        name: some(2, B, P + R) for name in ("valid", "mask")
    }


def samples():
    return {
        "prompts": tokens(3, B, P),
        "valid": np.ones((B, P), bool),
        "tokens": tokens(4, B, R),
        "mask": np.arange(R) < 1 + np.arange(B)[:, None] % R,
        "finished": np.ones(B, bool),
    }


def pretrain(microbatches=1):
    loss = likelihood.make_loss(POLICY)
    update = make_update(loss, TX, microbatches=microbatches, clip_norm=1.0)
    return update, init_state(params_of(POLICY), TX, jax.random.key(0)), texts()


def reward():
    batch = {
        "prompts": tokens(5, B, P),
        "prompt_valid": np.ones((B, P), bool),
        "responses": tokens(6, B, K, R),
        "response_valid": some(7, B, K, R),
        "ranks": np.tile(np.arange(1, K + 1, dtype=np.int32), (B, 1)),
        "present": np.ones((B, K), bool),
        "mask": np.ones(B, bool),
    }

    def loss(params, batch, rng):
        scores = ranking_scores(SCALAR, params, batch)
        losses = ranking_loss(scores, batch["ranks"], batch["present"])
        return weighted_sum(losses, batch["weights"]), {}

    update = make_update(loss, TX)
    return update, init_state(params_of(SCALAR), TX, jax.random.key(0)), batch


def ppo_ptx():
    config = ppo.Config(init="-", reward="-", prompts=("-",), texts=("-",))
    txs = {"policy": TX, "value": TX}
    rollout = samples()
    del rollout["finished"]
    for seed, name in enumerate(("old_logprobs", "old_values", "advantages")):
        rollout[name] = numbers(10 + seed, B, R)
    rollout["returns"] = numbers(20, B, R)
    rollout["old_logprobs"] -= 4.0
    batch = {"rollout": rollout, "ptx": texts(), "policy_on": np.float32(1)}
    params = {"policy": params_of(POLICY), "value": params_of(SCALAR)}
    state = init_state(params, txs, jax.random.key(0), ema=("policy",))
    loss = ppo.make_loss(POLICY, SCALAR, config)
    return make_update(loss, txs, ema_decay=0.99), state, batch


UPDATES = {
    "pretrain": pretrain,
    "pretrain in micro-batches": functools.partial(pretrain, 2),
    "reward": reward,
    "ppo with ptx": ppo_ptx,
}


def perplexity():
    def sums(params, batch):
        logprobs = likelihood.sequence_logprobs(POLICY, params, batch)
        return jnp.where(batch["mask"][:, 1:], logprobs, 0.0).sum(axis=1)

    return sums, params_of(POLICY), texts()


def scores():
    return (
        functools.partial(responses.response_scores, SCALAR),
        params_of(SCALAR),
        samples(),
    )


def assessment():
    params = {
        "policy": params_of(POLICY),
        "reference": params_of(POLICY, 1),
        "value": params_of(SCALAR),
        "reward": params_of(SCALAR, 1),
    }
    return make_assess(POLICY, SCALAR, SCALAR, temperature=1.0), params, samples()


FUNCTIONS = {"perplexity": perplexity, "scores": scores, "assessment": assessment}


def small_chunks(monkeypatch, ways):
    """Several chunks of logits, as many on one device as on each of `ways`."""
    monkeypatch.setattr(chunked, "CHUNK_LOGITS", V * B * 2 // ways)

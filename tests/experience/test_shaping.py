"""Scores -> rewards -> advantages, against loops in float64; what must not matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax import losses
from rlhf_jax.experience import RewardShaping, metrics, shaping

KL_COEF = 0.1
PLAIN = RewardShaping(whiten_advantages=False)


def assessed(rows=5, length=7, seed=0):
    """What the models said about random responses of length 1 to `length`."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, length + 1, rows)
    mask = np.arange(length) < lengths[:, None]

    def noise(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    old = -jnp.abs(noise(rows, length))
    return {
        "tokens": jnp.asarray(rng.integers(2, 9, (rows, length)), jnp.int32),
        "mask": jnp.asarray(mask),
        "finished": jnp.asarray(rng.random(rows) < 0.5),
        "sampler_logprobs": old,
        "old_logprobs": old,
        "ref_logprobs": old + 0.3 * noise(rows, length),
        "entropy": jnp.abs(noise(rows, length)),
        "exact_kl": jnp.abs(noise(rows, length)),
        "old_values": noise(rows, length),
        "scores": noise(rows),
    }


def shaped(data, how):
    """`advantages_of`, compiled: jitted anew, so that a mutation is seen."""
    return jax.jit(lambda data: shaping.advantages_of(data, jnp.float32(KL_COEF), how))(
        data
    )


rollout_metrics = jax.jit(metrics.rollout_metrics)


def by_hand(data, kl_coef, shaping=PLAIN):
    """(rewards, advantages, returns) token by token, as the papers write them."""
    host = {name: np.asarray(value, np.float64) for name, value in data.items()}
    shape = host["mask"].shape
    rewards, advantages = np.zeros(shape), np.zeros(shape)
    for i in range(shape[0]):
        length, after, value = int(host["mask"][i].sum()), 0.0, 0.0
        for t in reversed(range(length)):
            kl = host["old_logprobs"][i, t] - host["ref_logprobs"][i, t]
            rewards[i, t] = -kl_coef * kl
            rewards[i, t] += host["scores"][i] if t == length - 1 else 0.0
            own = host["old_values"][i, t]
            delta = rewards[i, t] + shaping.discount * value - own
            after = delta + shaping.discount * shaping.gae_lambda * after
            advantages[i, t], value = after, own
    returns = (advantages + host["old_values"]) * host["mask"]
    return rewards, advantages, returns


def check_by_hand(data, shaping=PLAIN):
    found = shaped(data, shaping)
    for name, wanted in zip(
        ("rewards", "advantages", "returns"),
        by_hand(data, KL_COEF, shaping),
        strict=True,
    ):
        real = np.where(data["mask"], found[name], 0.0)
        np.testing.assert_allclose(real, wanted, atol=2e-5)


@pytest.mark.parametrize("discount, gae_lambda", [(1.0, 0.95), (0.9, 0.5), (1.0, 0.0)])
def test_rewards_and_advantages_are_those_of_the_loop(discount, gae_lambda):
    check_by_hand(assessed(), RewardShaping(discount, gae_lambda, False, False))


def test_the_rewards_of_a_response_sum_to_the_bracket_of_the_objective():
    data = assessed()
    rewards = shaped(data, PLAIN)["rewards"]
    log_ratio = jnp.where(data["mask"], data["old_logprobs"] - data["ref_logprobs"], 0)
    wanted = data["scores"] - KL_COEF * log_ratio.sum(axis=1)
    np.testing.assert_allclose(rewards.sum(axis=1), wanted, rtol=1e-5)


REWARDS = losses.shaped_rewards


def negated_kl(scores, old, ref, mask, *, kl_coef):
    return REWARDS(scores, old, ref, mask, kl_coef=-kl_coef)


def negated_score(scores, old, ref, mask, *, kl_coef):
    return REWARDS(-scores, old, ref, mask, kl_coef=kl_coef)


def negated_both(scores, old, ref, mask, *, kl_coef):
    return -REWARDS(scores, old, ref, mask, kl_coef=kl_coef)


def late_score(scores, old, ref, mask, *, kl_coef):
    later = jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)[:, :-1]
    return REWARDS(scores, old, ref, later, kl_coef=kl_coef)


@pytest.mark.parametrize(
    "mutation", [negated_kl, negated_score, negated_both, late_score]
)
def test_a_wrong_sign_or_place_in_the_rewards_is_caught(monkeypatch, mutation):
    monkeypatch.setattr(shaping, "shaped_rewards", mutation)
    with pytest.raises(AssertionError):
        check_by_hand(assessed())


def test_scores_that_lost_their_fraction_are_refused():
    data = assessed()
    data["scores"] = data["scores"].astype(jnp.int32)
    with pytest.raises(TypeError, match="scores must be floating point"):
        shaped(data, PLAIN)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_without_a_finite_score_is_as_if_absent(bad):
    data = assessed()
    broken = dict(data, scores=data["scores"].at[2].set(bad))
    others = jnp.array([0, 1, 3, 4])
    absent = {name: value[others] for name, value in data.items()}
    for how in (PLAIN, RewardShaping()):
        found = shaped(broken, how)
        wanted = shaped(absent, how)
        assert not found["mask"][2].any()
        exact = np.testing.assert_array_equal
        for name in ("rewards", "advantages", "returns", "mask"):
            same = exact if shaping is PLAIN else np.testing.assert_allclose
            keywords = {} if same is exact else {"rtol": 1e-5, "atol": 1e-6}
            same(found[name][others], wanted[name], **keywords)
            assert np.isfinite(found[name]).all()
        metrics, without = rollout_metrics(found), rollout_metrics(wanted)
        assert metrics["bad_scores"] == 1 and without["bad_scores"] == 0
        for name in set(metrics) - {"bad_scores"}:
            np.testing.assert_allclose(
                metrics[name], without[name], rtol=1e-5, atol=1e-6, err_msg=name
            )


def test_a_batch_without_a_single_finite_score_trains_nothing():
    data = assessed()
    data["scores"] = jnp.full_like(data["scores"], jnp.nan)
    found = shaped(data, RewardShaping())
    assert not found["mask"].any() and not found["advantages"].any()
    assert all(np.isfinite(value) for value in rollout_metrics(found).values())


def test_equal_scores_leave_no_advantage():
    data = assessed()
    data |= {"ref_logprobs": data["old_logprobs"]}
    data |= {"old_values": jnp.zeros_like(data["old_values"])}
    data |= {"scores": jnp.full_like(data["scores"], 3.0)}
    shaping = RewardShaping(gae_lambda=1.0)
    found = shaped(data, shaping)
    np.testing.assert_allclose(found["advantages"], 0.0, atol=1e-2)
    assert all(np.isfinite(value) for value in rollout_metrics(found).values())


@pytest.mark.parametrize("length", [0, 1])
def test_responses_of_no_or_one_token_are_finite(length):
    data = assessed(length=4)
    data["mask"] = data["mask"].at[1].set(jnp.arange(4) < length)
    found = shaped(data, RewardShaping())
    for name in ("rewards", "advantages", "returns"):
        assert np.isfinite(found[name]).all()
        assert not found[name][1, length:].any()
    assert all(np.isfinite(value) for value in rollout_metrics(found).values())


def test_a_response_without_an_end_gets_the_score_that_was_asked_for():
    data = assessed()
    shaping = RewardShaping(missing_end_score=-1.0)
    scores = shaped(data, shaping)["scores"]
    wanted = np.where(data["finished"], data["scores"], -1.0)
    np.testing.assert_array_equal(scores, wanted)


def test_whitening_is_over_the_tokens_of_the_whole_batch():
    data = assessed(rows=64)
    found = shaped(data, RewardShaping())
    real = np.asarray(found["advantages"])[np.asarray(data["mask"])]
    assert abs(real.mean()) < 1e-5 and abs(real.std() - 1) < 1e-4
    scaled = RewardShaping(whiten_rewards=True, whiten_advantages=False)
    rewards = shaped(data, scaled)["rewards"]
    plain = shaped(data, PLAIN)["rewards"]
    real, before = (np.asarray(r)[np.asarray(data["mask"])] for r in (rewards, plain))
    assert abs(real.std() - 1) < 1e-4
    np.testing.assert_allclose(
        real, (before - before.mean()) / before.std() + before.mean(), atol=1e-4
    )


def test_the_metrics_are_means_over_episodes_with_a_standard_error():
    data = assessed(rows=50)
    metrics = rollout_metrics(shaped(data, PLAIN))
    mask = np.asarray(data["mask"])
    log_ratio = np.asarray(data["old_logprobs"] - data["ref_logprobs"], np.float64)
    k1 = np.where(mask, log_ratio, 0).sum(axis=1)
    k3 = np.where(mask, np.exp(-log_ratio) - 1 + log_ratio, 0).sum(axis=1)
    np.testing.assert_allclose(metrics["kl"], k1.mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["kl_k3"], k3.mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["kl_error"], k1.std() / np.sqrt(50), rtol=1e-4)
    np.testing.assert_allclose(metrics["length"], mask.sum(axis=1).mean(), rtol=1e-6)
    assert metrics["truncated"] == pytest.approx(1 - np.mean(data["finished"]))


def test_repetition_is_the_share_of_pairs_seen_before():
    data = assessed(rows=2, length=6)
    data["tokens"] = jnp.array([[4, 5, 4, 5, 4, 5], [2, 3, 4, 5, 6, 7]], jnp.int32)
    data["mask"] = jnp.ones((2, 6), bool)
    metrics = rollout_metrics(shaped(data, PLAIN))
    assert metrics["repetition"] == pytest.approx(3 / 12)  # 45, 54, 45 come again

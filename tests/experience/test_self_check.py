"""PPO refuses to start on models that would fail silently."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from tiny_experiment import ppo_config

from rlhf_jax.data.inputs import encode_prompts
from rlhf_jax.errors import InputError
from rlhf_jax.experience import assess
from rlhf_jax.experience.self_check import check_players
from rlhf_jax.models import responses
from rlhf_jax.registry import as_reward, reward_from
from rlhf_jax.stages import ppo


@pytest.fixture(scope="module")
def players(tiny):
    policy = tiny.model("pretrain")
    judge = reward_from(policy, jax.random.key(1))
    return ppo.Players(policy, judge, as_reward(judge))


@pytest.fixture(scope="module")
def batch(players):
    texts = ["Who runs the mill?\n", "Say it.\n", "When?\n", "What is a harbour?\n"]
    return encode_prompts(texts, players.policy.tokenizer, 40)


def test_sound_models_pass(players, batch):
    found = check_players(ppo_config(), players, batch)
    assert found["KL of the policy to itself"] == 0.0
    assert max(found.values()) < 1e-3
    assert len(found) == 5


def test_scoring_at_another_temperature_than_sampling_is_refused(
    monkeypatch, players, batch
):
    def cold(*args, temperature):
        return responses.response_comparison(*args, temperature=0.5)

    monkeypatch.setattr(assess, "response_comparison", cold)
    with pytest.raises(InputError, match="cache against full forward: off by"):
        check_players(ppo_config(), players, batch)


def test_a_reference_scored_at_another_temperature_is_refused(
    monkeypatch, players, batch
):
    def uneven(model, params, ref_params, rows, *, temperature):
        told = responses.response_comparison(
            model, params, ref_params, rows, temperature=temperature
        )
        other = responses.response_statistics(
            model, ref_params, rows, temperature=0.9 * temperature
        )
        return told._replace(ref_logprobs=other.logprobs)

    monkeypatch.setattr(assess, "response_comparison", uneven)
    with pytest.raises(InputError, match="KL of the policy to itself: off by"):
        check_players(ppo_config(), players, batch)


def test_a_reward_that_depends_on_its_batch_mates_is_refused(
    monkeypatch, players, batch
):
    def jealous(model, params, rows):
        scores = responses.response_scores(model, params, rows)
        return {"scores": scores + jnp.arange(scores.shape[0])}

    monkeypatch.setattr(assess, "reward_scores", jealous)
    with pytest.raises(InputError, match="reward whatever its batch mates: off by 3"):
        check_players(ppo_config(), players, batch)


def test_a_reward_that_sees_padding_is_refused(monkeypatch, players, batch):
    def blind(model, params, rows):
        everything = dict(rows, valid=jnp.ones_like(rows["valid"]))
        return {"scores": responses.response_scores(model, params, everything)}

    monkeypatch.setattr(assess, "reward_scores", blind)
    with pytest.raises(InputError, match="reward under more padding"):
        check_players(ppo_config(), players, batch)


def test_a_reward_that_is_not_finite_is_refused(players, batch):
    judge = players.reward.loaded
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, judge.params)
    reward = as_reward(dataclasses.replace(judge, params=broken))
    with pytest.raises(InputError, match="reward is finite"):
        check_players(ppo_config(), dataclasses.replace(players, reward=reward), batch)

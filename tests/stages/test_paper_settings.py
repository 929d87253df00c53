"""Defaults of the stages are what the paper states (Ouyang et al. 2022, appendix C)."""

import dataclasses

from rlhf_jax.stages import candidates, ppo, reward, sft

PPO = ppo.Config("init", "reward", ("prompts",), ("texts",))
SFT = sft.Config("init", ("demonstrations",))
PPO_INIT = sft.ppo_init("init", ("demonstrations",), texts=("texts",))
REWARD = reward.Config("init", ("rankings",))


def adam_to_a_tenth(optimizer, learning_rate):
    """Adam with β 0.9 and 0.95 (C), cosine to 10 % without warm-up."""
    return (
        (optimizer.name, optimizer.b1, optimizer.b2) == ("adam", 0.9, 0.95)
        and (optimizer.schedule, optimizer.final_fraction) == ("cosine", 0.1)
        and optimizer.warmup_steps == 0
        and optimizer.learning_rate == learning_rate
    )


def test_supervised_fine_tuning_is_c_1():
    assert (SFT.epochs, SFT.batch_size, SFT.residual_dropout) == (16, 32, 0.2)
    assert SFT.mix_fraction == 0.0
    assert adam_to_a_tenth(SFT.optimizer, 9.65e-6)


def test_the_start_of_ppo_is_c_3():
    assert (PPO_INIT.epochs, PPO_INIT.mix_fraction) == (2, 0.1)
    assert adam_to_a_tenth(PPO_INIT.optimizer, 5e-6)


def test_the_reward_model_is_c_2():
    assert (REWARD.epochs, REWARD.batch_size, REWARD.max_k) == (1, 64, 9)
    assert adam_to_a_tenth(REWARD.optimizer, 9e-6)


def test_candidates_are_4_to_9():
    config = candidates.Config(("policy",), ("prompts",))
    assert (config.min_k, config.max_k) == (4, 9)


def test_the_sizes_of_ppo_are_c_4():
    sizes = (PPO.episodes, PPO.batch_size, PPO.minibatch_size, PPO.inner_epochs)
    assert sizes == (256_000, 512, 64, 1)
    assert (PPO.iterations, PPO.minibatches) == (500, 8)


def test_the_objective_of_ppo_is_that_of_equation_2_and_c_4():
    assert (PPO.kl.kl_coef, PPO.kl.target) == (0.02, None)
    assert (PPO.ptx_coef, PPO.ptx_per_episode) == (27.8, 8)
    assert (PPO.clip_range, PPO.temperature, PPO.shaping.discount) == (0.2, 1.0, 1.0)
    assert (PPO.ema_decay, PPO.warmup_iterations) == (0.992, 10)
    value = PPO.value_optimizer
    assert (value.schedule, value.learning_rate) == ("constant", 9e-6)


def test_prompts_and_responses_have_a_thousand_tokens_each():
    for config in (SFT, PPO_INIT, REWARD, PPO):
        assert (config.max_prompt, config.max_response) == (1000, 1000)


def test_buckets_that_do_not_rise_are_told_before_anything_runs():
    config = dataclasses.replace(PPO, prompt_buckets=(64, 32))
    assert any("prompt_buckets" in problem for problem in config.problems())
    config = dataclasses.replace(REWARD, packed=(128, 64))
    assert any("packed" in problem for problem in config.problems())
    assert not list(dataclasses.replace(REWARD, packed=(64, 128)).problems())

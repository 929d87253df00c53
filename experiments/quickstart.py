"""All of InstructGPT on the embedded world, in minutes, with no download.

Source: Ouyang et al. 2022, every step at a size that two CPU cores can train.
Data: written by `rlhf_jax.simulation` from a seed; its truth is known, so every claim
of a policy is measured by a gold utility that no model has seen.

    rlhf-jax run experiments/quickstart.py --workdir runs/quickstart
    rlhf-jax run experiments/quickstart.py --config.ppo_ptx.kl.kl_coef=0.05

Cost and results: see README.md (`make demo`), measured there with date and machine.
"""

from rlhf_jax.models import TrunkConfig
from rlhf_jax.pipeline import Experiment, RunSettings
from rlhf_jax.stages import (
    best_of_n,
    candidates,
    evaluate,
    ppo,
    pretrain,
    reward,
    sft,
    simulate,
)
from rlhf_jax.training import OptimizerConfig

LENGTHS = {"max_prompt": 96, "max_response": 32}
WINDOW = 128
WORLD = "@world"
# 1 M parameters; rotary positions learn to copy from the prompt in fewer steps than
# the learned ones of GPT-3
MODEL = TrunkConfig(
    vocab_size=1536,
    context_length=WINDOW,
    embed_dim=128,
    num_layers=4,
    num_heads=4,
    mlp_dim=344,
    positions="rotary",
    norm="rms",
    activation="silu",
    gated_mlp=True,
    qkv_bias=False,
    out_bias=False,
    mlp_bias=False,
)


def adam(learning_rate: float, **changes) -> OptimizerConfig:
    """Adam as in appendix C, at the rate that this size needs."""
    return OptimizerConfig(name="adam", learning_rate=learning_rate, **changes)


def candidates_config(policy: str, half: int) -> candidates.Config:
    """K = 6 to 9 responses of a policy to each of 4,000 prompts, ranked.

    A reward model that has seen few of these chooses badly among what the policy
    writes, however many other rankings it has seen (docs/log.md, 2026-11-26).
    """
    return candidates.Config(
        policies=(policy,),
        prompts=(f"{WORLD}/rankings.train.jsonl",),
        labelers="simulated:training",
        round=half,  # the second goes on where the first ended
        max_prompts=4000,
        min_k=6,
        max_k=9,
        batch_size=32,
        **LENGTHS,
    )


def ppo_config(ptx_coef: float) -> ppo.Config:
    """PPO as in appendix C.4, scaled down: batches of 128, 64 per update."""
    return ppo.Config(
        init="@ppo_init/model",
        reward="@reward/model",
        prompts=(f"{WORLD}/prompts.train.jsonl",),
        texts=(f"{WORLD}/pretraining.train.jsonl",),
        ptx_coef=ptx_coef,
        ptx_per_episode=1,  # the paper: 8
        ptx_window=WINDOW // 2,
        episodes=128 * 50,
        batch_size=128,
        minibatch_size=64,
        prompt_buckets=(32,),  # three prompts of four are shorter
        optimizer=adam(1e-4, schedule="constant"),
        value_optimizer=adam(5e-4, schedule="constant"),
        clip_norm=1.0,
        # the paper: 0.02; at 0.05 this reward model was over-optimised (docs/log.md)
        kl=ppo.KLControl(kl_coef=0.15),
        warmup_iterations=5,
        value_warmup_iterations=3,
        # 0.992 averages over more updates than these 100
        ema_decay=0.9,
        snapshot_every=5,
        **LENGTHS,
    )


def get_config():
    """The experiment as a `ConfigDict`."""
    stages = {
        "world": simulate.Config(sizes={"demonstrations": 6000, "rankings": 16000}),
        "pretrain": pretrain.Config(
            texts=(f"{WORLD}/pretraining.train.jsonl",),
            valid_texts=(f"{WORLD}/pretraining.valid.jsonl",),
            tokenizer=f"{WORLD}/tokenizer",
            model=MODEL,
            window=WINDOW,
            batch_size=16,
            steps=1300,
            evaluate_every=650,
            optimizer=OptimizerConfig(
                learning_rate=3e-3, warmup_steps=100, weight_decay=0.1
            ),
        ),
        "sft": sft.Config(
            init="@pretrain/model",
            demonstrations=(f"{WORLD}/demonstrations.train.jsonl",),
            valid_demonstrations=(f"{WORLD}/demonstrations.valid.jsonl",),
            epochs=4,
            batch_size=16,
            layout="packed",
            residual_dropout=0.1,
            optimizer=adam(1e-3),
            clip_norm=1.0,
            **LENGTHS,
        ),
        "ppo_init": sft.ppo_init(
            "@pretrain/model",
            (f"{WORLD}/demonstrations.train.jsonl",),
            texts=(f"{WORLD}/pretraining.train.jsonl",),
            epochs=7,  # the paper's 2 are of twice as many, longer demonstrations
            batch_size=16,
            layout="packed",
            residual_dropout=0.1,
            optimizer=adam(1e-3),
            clip_norm=1.0,
            **LENGTHS,
        ),
        # half of the prompts each, so that SFT's are written while PPO init trains
        "candidates_sft": candidates_config("@sft/model", half=1),
        "candidates_init": candidates_config("@ppo_init/model", half=2),
        "reward": reward.Config(
            init="@ppo_init/model",
            rankings=(
                "@candidates_sft/rankings.jsonl",
                "@candidates_init/rankings.jsonl",
                f"{WORLD}/rankings.train.jsonl",
            ),
            valid_rankings=(f"{WORLD}/rankings.valid.jsonl",),
            held_out_rankings=(f"{WORLD}/held_out_rankings.jsonl",),
            demonstrations=(f"{WORLD}/demonstrations.train.jsonl",),
            batch_size=8,
            packed=(96, 144, 208),  # the rest: one wider program
            optimizer=adam(2.5e-4, warmup_steps=50),
            clip_norm=1.0,
            **LENGTHS,
        ),
        "ppo": ppo_config(0.0),
        "ppo_ptx": ppo_config(1.0),  # 0.3 leaves the text where PPO leaves it
        "best_of_n": best_of_n.Config(
            policy="@ppo_init/model",
            reward="@reward/model",
            prompts=(f"{WORLD}/prompts.test.jsonl",),
            samples=16,
            max_prompts=64,
            gold=True,
            **LENGTHS,
        ),
        "report": evaluate.Config(
            names=("GPT", "SFT", "PPO init", "PPO", "PPO-ptx"),
            policies=(
                "@pretrain/model",
                "@sft/model",
                "@ppo_init/model",
                "@ppo/model",
                "@ppo_ptx/model",
            ),
            baseline="SFT",
            reward="@reward/model",
            world=WORLD,
            runs={"PPO": "@ppo", "PPO-ptx": "@ppo_ptx"},
            stages={"pretrain": "@pretrain", "SFT": "@sft", "RM": "@reward"},
            best_of_n="@best_of_n/best_of_n.json",
            max_prompts=478,
            samples_per_prompt=3,
            window=WINDOW,
            **LENGTHS,
        ),
    }
    return Experiment("quickstart", stages, RunSettings(save_every=500)).to_config()

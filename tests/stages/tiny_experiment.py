"""All stages at the smallest size that still runs every line; used by the tests."""

from rlhf_jax.models import TrunkConfig
from rlhf_jax.pipeline import Experiment, RunSettings
from rlhf_jax.stages import (
    best_of_n,
    candidates,
    dpo,
    evaluate,
    ppo,
    pretrain,
    reward,
    sft,
    simulate,
)
from rlhf_jax.training import OptimizerConfig

LENGTHS = {"max_prompt": 48, "max_response": 12}
SIZES = {
    "pretraining": 200,
    "demonstrations": 60,
    "rankings": 40,
    "held_out_rankings": 10,
    "prompts": 120,
    "skills": 5,
}
SETTINGS = RunSettings(mesh="1,1,1", save_every=4, tensorboard=False, fetch_every=1)


def adam(learning_rate: float) -> OptimizerConfig:
    return OptimizerConfig(name="adam", learning_rate=learning_rate)


def ppo_config(**changes) -> ppo.Config:
    fields = {
        "init": "@ppo_init/model",
        "reward": "@reward/model",
        "prompts": ("@world/prompts.train.jsonl",),
        "texts": ("@world/pretraining.train.jsonl",),
        "ptx_coef": 1.0,
        "ptx_per_episode": 1,
        "ptx_window": 32,
        "episodes": 32,
        "batch_size": 8,
        "minibatch_size": 4,
        "optimizer": OptimizerConfig(
            name="adam", learning_rate=1e-3, schedule="constant"
        ),
        "value_optimizer": OptimizerConfig(
            name="adam", learning_rate=1e-3, schedule="constant"
        ),
        "warmup_iterations": 1,
        "snapshot_every": 2,
        **LENGTHS,
    }
    return ppo.Config(**{**fields, **changes})


def stages() -> dict:
    demonstrations = ("@world/demonstrations.train.jsonl",)
    return {
        "world": simulate.Config(sizes=SIZES, vocab_size=400),
        "pretrain": pretrain.Config(
            texts=("@world/pretraining.train.jsonl",),
            valid_texts=("@world/pretraining.valid.jsonl",),
            tokenizer="@world/tokenizer",
            model=TrunkConfig(400, 64, 32, 2, 2),
            window=48,
            batch_size=8,
            steps=6,
            evaluate_every=3,
        ),
        "sft": sft.Config(
            init="@pretrain/model",
            demonstrations=demonstrations,
            valid_demonstrations=("@world/demonstrations.valid.jsonl",),
            epochs=2,
            batch_size=16,
            optimizer=adam(1e-3),
            **LENGTHS,
        ),
        "ppo_init": sft.ppo_init(
            "@pretrain/model",
            demonstrations,
            texts=("@world/pretraining.train.jsonl",),
            mix_fraction=0.25,
            batch_size=16,
            optimizer=adam(1e-3),
            **LENGTHS,
        ),
        "candidates": candidates.Config(
            policies=("@sft/model", "@ppo_init/model"),
            prompts=("@world/rankings.train.jsonl",),
            max_k=5,
            batch_size=16,
            **LENGTHS,
        ),
        "reward": reward.Config(
            init="@sft/model",
            rankings=("@candidates/rankings.jsonl",),
            valid_rankings=("@world/rankings.valid.jsonl",),
            demonstrations=demonstrations,
            batch_size=8,
            optimizer=adam(1e-3),
            **LENGTHS,
        ),
        "ppo": ppo_config(ptx_coef=0.0),
        "ppo_ptx": ppo_config(),
        "dpo": dpo.Config(
            init="@sft/model",
            rankings=("@candidates/rankings.jsonl",),
            batch_size=8,
            **LENGTHS,
        ),
        "best_of_n": best_of_n.Config(
            policy="@ppo_init/model",
            reward="@reward/model",
            prompts=("@world/prompts.test.jsonl",),
            samples=4,
            max_prompts=6,
            gold=True,
            batch_size=8,
            **LENGTHS,
        ),
        "report": evaluate.Config(
            names=("GPT", "SFT", "PPO", "PPO-ptx"),
            policies=(
                "@pretrain/model",
                "@sft/model",
                "@ppo/model",
                "@ppo_ptx/model",
            ),
            world="@world",
            reward="@reward/model",
            runs={"PPO": "@ppo", "PPO-ptx": "@ppo_ptx"},
            stages={"GPT": "@pretrain", "RM": "@reward"},
            best_of_n="@best_of_n/best_of_n.json",
            max_prompts=12,
            frontier_prompts=6,
            skill_examples=4,
            window=48,
            max_windows=8,
            **LENGTHS,
        ),
    }


def get_config():
    return Experiment("tiny", stages(), SETTINGS).to_config()

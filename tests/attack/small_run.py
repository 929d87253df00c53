"""The run that is attacked: every kind of stage that is cheap, at the least size.

A file for `rlhf-jax run`, too.
"""

import pathlib

from rlhf_jax.models import TrunkConfig
from rlhf_jax.pipeline import Experiment, RunSettings, run_experiment
from rlhf_jax.stages import candidates, evaluate, ppo, pretrain, reward, sft, simulate
from rlhf_jax.training import OptimizerConfig

LENGTHS = {"max_prompt": 48, "max_response": 8}
SIZES = {
    "pretraining": 60,
    "demonstrations": 40,
    "rankings": 40,
    "held_out_rankings": 10,
    "prompts": 80,
    "skills": 2,
}
ADAM = OptimizerConfig(name="adam", learning_rate=1e-3)


def stages() -> dict:
    """Seven stages, each of which starts from those before it."""
    demonstrations = ("@world/demonstrations.train.jsonl",)
    return {
        "world": simulate.Config(sizes=SIZES, vocab_size=300),
        "pretrain": pretrain.Config(
            texts=("@world/pretraining.train.jsonl",),
            valid_texts=("@world/pretraining.valid.jsonl",),
            tokenizer="@world/tokenizer",
            model=TrunkConfig(300, 56, 16, 2, 2),
            window=32,
            batch_size=8,
            steps=4,
            evaluate_every=2,
        ),
        "sft": sft.Config(
            init="@pretrain/model",
            demonstrations=demonstrations,
            valid_demonstrations=("@world/demonstrations.valid.jsonl",),
            epochs=2,
            batch_size=8,
            optimizer=ADAM,
            **LENGTHS,
        ),
        "candidates": candidates.Config(
            policies=("@sft/model", "@pretrain/model"),
            prompts=("@world/rankings.train.jsonl",),
            min_k=2,
            max_k=3,
            batch_size=8,
            **LENGTHS,
        ),
        "reward": reward.Config(
            init="@sft/model",
            rankings=("@candidates/rankings.jsonl",),
            valid_rankings=("@world/rankings.valid.jsonl",),
            demonstrations=demonstrations,
            batch_size=4,
            optimizer=ADAM,
            **LENGTHS,
        ),
        "ppo": ppo.Config(
            init="@sft/model",
            reward="@reward/model",
            prompts=("@world/prompts.train.jsonl",),
            texts=("@world/pretraining.train.jsonl",),
            ptx_coef=0.0,
            episodes=32,
            batch_size=8,
            minibatch_size=4,
            optimizer=ADAM,
            value_optimizer=ADAM,
            warmup_iterations=1,
            snapshot_every=2,
            **LENGTHS,
        ),
        "report": evaluate.Config(
            names=("GPT", "SFT", "PPO"),
            policies=("@pretrain/model", "@sft/model", "@ppo/model"),
            world="@world",
            reward="@reward/model",
            runs={"PPO": "@ppo"},
            stages={"GPT": "@pretrain", "RM": "@reward"},
            max_prompts=4,
            frontier_prompts=4,
            skill_examples=2,
            window=32,
            max_windows=4,
            **LENGTHS,
        ),
    }


def experiment() -> Experiment:
    """The stages on one device, saving often."""
    settings = RunSettings(mesh="1,1,1", save_every=2, tensorboard=False, fetch_every=1)
    return Experiment("small", stages(), settings)


def get_config():
    """For `rlhf-jax run`."""
    return experiment().to_config()


def finish(workdir: pathlib.Path) -> pathlib.Path:
    """The run, finished, with its reports; what is done is not done again."""
    from rlhf_jax.cli.report import make_reports

    run_experiment(experiment(), workdir)
    make_reports(workdir)
    return workdir

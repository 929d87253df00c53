"""Rounds of feedback at the smallest size: "COUNT" or "COUNT,LABELERS".

`online(COUNT)` goes on with DPO: the reward model of round 1 ranks what policies write.

As a program: `tiny_rounds.py WORDS WORKDIR` runs them, to be killed.
"""

import dataclasses
import sys

import tiny_experiment
from stage_worker import on_one_device

from rlhf_jax.pipeline import Experiment
from rlhf_jax.pipeline.rounds import online_rounds, rounds

KEPT = ("world", "pretrain", "candidates", "reward", "ppo")
START = {"init": "@pretrain/model"}


def one_round() -> dict:
    """The stages of one round; a language model stands in for SFT."""
    made = {name: tiny_experiment.stages()[name] for name in KEPT}
    changes = {
        "candidates": {
            "policies": ("@pretrain/model", "@pretrain/model"),
            "prompts": ("@world/prompts.train.jsonl",),
            "max_prompts": 8,
        },
        "reward": {**START, "epochs": 3},
        "ppo": {**START, "episodes": 24, "snapshot_every": None},
    }
    for name, fields in changes.items():
        made[name] = dataclasses.replace(made[name], **fields)
    return made


def one_online_round() -> dict:
    """After the stages of one round: answers that a reward model ranks, and DPO."""
    made = one_round()
    del made["ppo"]
    answers = dataclasses.replace(
        made["candidates"],
        policies=("@pretrain/model",),
        reward="@reward/model",
        best_and_worst=True,
    )
    dpo = dataclasses.replace(
        tiny_experiment.stages()["dpo"],
        **START,
        rankings=("@answers/rankings.jsonl",),
        max_k=2,
        epochs=3,
        optimizer=tiny_experiment.adam(1e-3),
    )
    return made | {"answers": answers, "dpo": dpo}


def online(count: int) -> Experiment:
    stages = online_rounds(one_online_round(), count, candidates="answers")
    settings = dataclasses.replace(tiny_experiment.SETTINGS, save_every=2)
    return Experiment("rounds", stages, settings)


def experiment(words: str) -> Experiment:
    count, _, labelers = words.partition(",")
    stages = rounds(one_round(), int(count), labelers=labelers or None)
    settings = dataclasses.replace(tiny_experiment.SETTINGS, save_every=2)
    return Experiment("rounds", stages, settings)


def get_config(words: str = "2"):
    return experiment(words).to_config()


if __name__ == "__main__":
    from rlhf_jax.pipeline import run_experiment

    on_one_device()
    run_experiment(experiment(sys.argv[1]), sys.argv[2])

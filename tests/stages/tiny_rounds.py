"""Rounds of feedback at the smallest size: "COUNT" or "COUNT,LABELERS".

As a program: `tiny_rounds.py WORDS WORKDIR` runs them, to be killed.
"""

import dataclasses
import sys

import tiny_experiment
from stage_worker import on_one_device

from rlhf_jax.pipeline import Experiment
from rlhf_jax.pipeline.rounds import rounds

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

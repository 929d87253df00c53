"""The stages: Config, make_loss, run. Wiring, no arithmetic.

A stage is a loss and a stream of batches; a checkpoint joins one stage to the next.

    simulate    the embedded world as files
    prepare     data files -> record files, with the paper's rules and a report
    labelled    labelled sentences -> rankings
    tokenizer   a BPE trained on the experiment's text
    pretrain    the GPT baseline
    sft         supervised fine-tuning, and the initialisation of PPO
    candidates  K responses per prompt, ranked by labelers
    reward      the reward model from K-wise rankings
    ppo         PPO and PPO-ptx
    dpo         the ranking baseline without a reward model
    best_of_n   the sampling baseline
    evaluate    the tables and the report of a run
    judge       policies by a classifier that shares nothing with the reward model
    baselines   a reward model beside chance, length and a bag of words

    likelihood  -log p(text), shared by pretraining, SFT and ptx
    responses   logprobs, values and scores of responses
    rollout     scores -> rewards -> advantages
    self_check  what must hold before PPO starts
    session     mesh, checkpoints, metrics and guards around a stage
    hand_over   model directories
    experiment  named stages, references, overrides
    content     the hash that a stage is known by
    pipeline    stages in order, each exactly once
    side_by_side  stages that do not need each other, in processes of their own
    ensemble    several reward models that score as one
    rounds      new candidates, rankings, reward model and policy, again
    plan        parameters, memory and steps without allocating a model
"""

import importlib

_LAZY = {
    "Experiment": "rlhf_jax.stages.experiment",
    "RunSettings": "rlhf_jax.stages.session",
    "load_model": "rlhf_jax.stages.hand_over",
    "run_experiment": "rlhf_jax.stages.pipeline",
    "save_model": "rlhf_jax.stages.hand_over",
}
_STAGES = (
    "baselines",
    "best_of_n",
    "candidates",
    "dpo",
    "evaluate",
    "judge",
    "labelled",
    "ppo",
    "prepare",
    "pretrain",
    "reward",
    "sft",
    "simulate",
    "tokenizer",
)

__all__ = sorted([*_LAZY, *_STAGES])  # noqa: PLE0605


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _STAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

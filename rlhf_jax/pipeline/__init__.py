"""Experiments: stages in order, each exactly once.

experiment    named stages, references, overrides
content       the hash that a stage is known by
runner        stages in order: done ones are skipped, cut ones continue
side_by_side  stages that do not need each other, in processes of their own
rounds        new candidates, rankings, reward model and policy, again
plan          parameters, memory and steps without allocating a model
"""

from rlhf_jax.pipeline.experiment import Experiment, load_experiment
from rlhf_jax.pipeline.runner import run_experiment
from rlhf_jax.training.session import RunSettings

__all__ = ["Experiment", "RunSettings", "load_experiment", "run_experiment"]

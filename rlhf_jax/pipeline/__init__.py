"""Experiments: stages in order, each exactly once.

experiment    named stages, references, overrides
content       the hash that a stage is known by
checks        what can be known to fail before anything is spent
runner        stages in order: done ones are skipped, cut ones continue
places        the directory of a stage: set aside, taken back, made longer
finished      the manifest of a stage that is done, and whether it still holds
locks         one process at a time runs a stage
side_by_side  stages that do not need each other, in processes of their own
rounds        new candidates, rankings, reward model and policy, again
plan          parameters, memory and steps without allocating a model
programs      what each stage compiles, on shapes
costs         what a program costs on machines that are not here
forecast      an experiment there: does it fit, how long, at what price
"""

from rlhf_jax.pipeline.experiment import Experiment, load_experiment
from rlhf_jax.pipeline.runner import run_experiment
from rlhf_jax.training.session import RunSettings

__all__ = ["Experiment", "RunSettings", "load_experiment", "run_experiment"]

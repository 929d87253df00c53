"""InstructGPT 1.3B: every hyper-parameter of the paper; see recipe.py for the sources.

rlhf-jax run experiments/instructgpt/1b3.py --dry-run
"""

from recipe import get_experiment


def get_config():
    """The experiment as a `ConfigDict`."""
    return get_experiment("1.3B").to_config()

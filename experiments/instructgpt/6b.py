"""InstructGPT 6B: every hyper-parameter of the paper; see recipe.py for the sources.

rlhf-jax run experiments/instructgpt/6b.py --dry-run
"""

from recipe import get_experiment


def get_config():
    """The experiment as a `ConfigDict`."""
    return get_experiment("6B").to_config()

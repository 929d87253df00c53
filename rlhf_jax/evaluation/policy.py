"""What an evaluation needs of a model: to write, and to say how likely a text is.

Every suite works on a `Policy`, functions over strings. `ModelPolicy` is one, of a
language model, its params and a tokenizer; tests and other people's models bring their
own functions.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np

from rlhf_jax.evaluation.model_functions import ModelPolicy
from rlhf_jax.registry import load_model, require_language_model

Generate = Callable[[Sequence[str]], list[str]]
Logprobs = Callable[[Sequence[str], Sequence[str]], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Policy:
    """A model as the evaluations see it.

    Attributes:
      name: the column of a table.
      generate: prompts [N] -> continuations [N] at temperature 0.
      logprobs: (prompts [N], completions [N]) -> (sums [N] in nats, token counts [N])
        of the completions given the prompts, at temperature 1.
      sample: (prompts [N], seed) -> continuations [N] at temperature 1; None where the
        policy cannot.
      is_greedy: (prompts [N], completions [N]) -> [N] whether temperature 0 would
        write exactly the completion; None where the policy cannot tell.
      truncated: how many prompts were cut to fit the context so far; None: unknown.
    """

    name: str
    generate: Generate
    logprobs: Logprobs
    sample: Callable[[Sequence[str], int], list[str]] | None = None
    is_greedy: Callable[[Sequence[str], Sequence[str]], np.ndarray] | None = None
    truncated: int | None = None


def load_policy(
    directory: str | os.PathLike, name: str | None = None, **options
) -> ModelPolicy:
    """The policy of a directory or hub name.

    Args:
      directory: whatever `registry.load_model` takes.
      name: its column; the directory's name when None.
      options: fields of `ModelPolicy`.

    Raises:
      InputError: there is a reward or value model, not a language model.
    """
    found = require_language_model(load_model(directory), directory)
    name = name or os.path.basename(os.path.normpath(directory))
    return ModelPolicy(name, found, **options)

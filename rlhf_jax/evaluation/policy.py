"""What an evaluation needs of a model: to write, and to say how likely a text is.

Every suite works on a `Policy`, three functions over strings. `model_policy` makes one
from a language model, its params and a tokenizer; tests and other people's models bring
their own functions.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["Policy", "model_policy", "load_policy"]

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
    """

    name: str
    generate: Generate
    logprobs: Logprobs
    sample: Callable[[Sequence[str], int], list[str]] | None = None
    is_greedy: Callable[[Sequence[str], Sequence[str]], np.ndarray] | None = None

"""What an evaluation needs of a model: to write, and to say how likely a text is.

Every suite works on a `Policy`, functions over strings. `ModelPolicy` is one, of a
language model, its params and a tokenizer; tests and other people's models bring their
own functions.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.model_functions import ModelPolicy
from rlhf_jax.registry import load_model, require_language_model

Generate = Callable[[Sequence[str]], list[str]]
Logprobs = Callable[[Sequence[str], Sequence[str]], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Policy:
    """A model as the evaluations see it.

    Attributes:
      name: the column of a table.
      generate: prompts [N], texts or messages -> continuations [N] at temperature 0.
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


def logprobs_of(
    policy: Policy | ModelPolicy, prompts: Sequence[str], completions: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """`policy.logprobs`, refused where it gives something that is none.

    A NaN would be an answer like any other to what compares: the first option.

    Raises:
      InputError: other counts than texts, NaN, or a log-probability above 0.
    """
    sums, counts = (np.asarray(v) for v in policy.logprobs(prompts, completions))
    if not sums.shape == counts.shape == (len(prompts),):
        raise InputError(
            f"policy {policy.name}: {sums.shape} log-probabilities and {counts.shape} "
            f"counts for {len(prompts)} texts"
        )
    wrong = ~(sums <= 1e-3)  # a rounding error is none
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"policy {policy.name}: the log-probability of {completions[row][:40]!r} "
            f"after {prompts[row][-40:]!r} is {sums[row]}; expected 0 or less"
        )
    return sums.astype(np.float64), counts


def load_policy(
    directory: str | os.PathLike,
    name: str | None = None,
    *,
    form: str | None = None,
    records: Sequence[Any] = (),
    **options,
) -> ModelPolicy:
    """The policy of a directory or hub name.

    Args:
      directory: whatever `registry.load_model` takes.
      name: its column; the directory's name when None.
      form: in which it is asked; None: the one that is kept with it.
      records: what it will be asked; where no form is kept with it, conversations among
        them choose one as in training, and all else is "plain".
      options: fields of `ModelPolicy`.

    Raises:
      InputError: there is a reward or value model, not a language model; or its form
        is another one.
    """
    found = require_language_model(load_model(directory), directory)
    name = name or os.path.basename(os.path.normpath(directory))
    found = found.in_form(records, form, name)
    return ModelPolicy(name, found, **options)

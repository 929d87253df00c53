"""What an evaluation needs of a model: to write, and to say how likely a text is.

Every suite works on a `Policy`, functions over strings. `model_policy` makes one from a
language model, its params and a tokenizer; tests and other people's models bring their
own functions.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np

from rlhf_jax.evaluation.model_functions import ModelFunctions
from rlhf_jax.registry import LoadedModel, load_model, require_language_model

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
    truncated: Callable[[], int] | None = None


def model_policy(
    name: str,
    model,
    params: dict,
    tokenizer,
    *,
    max_new_tokens: int = 64,
    batch_size: int = 16,
    stop_at_newline: bool = False,
    form: str | None = None,
) -> Policy:
    """The policy of a language model.

    Args:
      name: the column of a table.
      model: a `LanguageModel`.
      params: its parameters.
      tokenizer: text to ids; its `begin_token`, if it has one, stands before every
        prompt, and before an empty prompt its `end_token` otherwise, as GPT-2 does.
      max_new_tokens: response budget [tokens].
      batch_size: rows at once.
      form: in which the model reads a prompt; None: plain. See `data.conversations`.
      stop_at_newline: end generation at a newline token, for suites that cut there
        anyway.
    """
    functions = ModelFunctions(
        LoadedModel(model, params, tokenizer, {"form": form}),
        max_new_tokens,
        batch_size,
        stop_at_newline,
    )
    return Policy(
        name,
        generate=functions.generate,
        logprobs=functions.logprobs,
        sample=functions.sample,
        is_greedy=functions.is_greedy,
        truncated=lambda: functions.truncated,
    )


def load_policy(
    directory: str | os.PathLike,
    name: str | None = None,
    **options,
) -> Policy:
    """The policy of a directory or hub name.

    Args:
      directory: whatever `registry.load_model` takes.
      name: its column; the directory's name when None.
      options: as for `model_policy`.

    Raises:
      InputError: there is a reward or value model, not a language model.
    """
    found = require_language_model(load_model(directory), directory)
    return model_policy(
        name or os.path.basename(os.path.normpath(directory)),
        found.model,
        found.params,
        found.tokenizer,
        **{"form": found.meta.get("form"), **options},
    )

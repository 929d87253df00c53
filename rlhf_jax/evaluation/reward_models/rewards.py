"""A reward model as a function of texts: prompts and responses in, rewards out."""

import functools
import os
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.loading import Load, load_checkpoint
from rlhf_jax.evaluation.model_functions import padded
from rlhf_jax.models import LanguageModel, last_values

__all__ = ["load_reward", "model_reward"]


def model_reward(
    model, params: dict, tokenizer, *, batch_size: int = 16
) -> Callable[[Sequence[str], Sequence[str]], Float[np.ndarray, "N"]]:
    """The reward of prompt and response: the value at the response's end token.

    Args:
      model: a `ScalarModel`, or an ensemble (`registry.ensemble.Ensemble`): a `member`,
        a `ScalarModel`, and `combined`, from scores [E,B] to scores [B].
      params: its parameters; of an ensemble the members', stacked to [E, ...].
      tokenizer: text to ids; `end_token` closes every response.
      batch_size: rows at once.

    Returns:
      a function; prompts too long for the context lose their beginning.
    """
    context = model.config.context_length

    def reward(prompts: Sequence[str], responses: Sequence[str]):
        begin = getattr(tokenizer, "begin_token", None)
        head = [] if begin is None else [begin]
        rows = []
        for prompt, response in zip(prompts, responses, strict=True):
            tail = [*tokenizer.encode(response), tokenizer.end_token]
            start = head + tokenizer.encode(prompt)
            rows.append((start + tail)[-context:])
        rewards = np.zeros(len(rows))
        order = np.argsort([len(row) for row in rows], kind="stable")
        for first in range(0, len(order), batch_size):
            some = order[first : first + batch_size]
            width = padded(max(len(rows[i]) for i in some), context)
            tokens = np.full((batch_size, width), tokenizer.pad_token, np.int32)
            valid = np.zeros((batch_size, width), bool)
            for place, i in enumerate(some):
                tokens[place, : len(rows[i])] = rows[i]
                valid[place, : len(rows[i])] = True
            found = reward_program(model)(params, tokens, valid)
            rewards[some] = np.asarray(found)[: len(some)]
        return rewards

    return reward


@functools.cache
def reward_program(model):
    """The jitted (params, tokens [B,T], valid [B,T]) -> [B], the last valid value;
    of an ensemble, what its members' values combine to."""
    together = hasattr(model, "combined")
    single = model.member if together else model

    def score(params, tokens: Int[Array, "B T"], valid: Bool[Array, "B T"]):
        def one(params):
            return last_values(single.apply({"params": params}, tokens, valid), valid)

        return model.combined(jax.lax.map(one, params)) if together else one(params)

    return jax.jit(score)


def load_reward(
    directory: str | os.PathLike, *, load: Load = load_checkpoint, **options
):
    """The reward function of a saved reward model.

    Args:
      directory: what `load` reads.
      load: as for `load_policy`.
      options: as for `model_reward`.

    Raises:
      InputError: there is a language model.
    """
    found = load(directory)
    if isinstance(found.model, LanguageModel):
        kind = type(found.model).__name__
        raise InputError(f"{directory}: holds {kind}, expected a reward model")
    return model_reward(found.model, found.params, found.tokenizer, **options)

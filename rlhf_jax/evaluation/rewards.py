"""A reward model as a function of texts: prompts and responses in, rewards out."""

import functools
import os
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.model_functions import padded

__all__ = ["load_reward", "model_reward"]


def model_reward(
    model, params: dict, tokenizer, *, batch_size: int = 16
) -> Callable[[Sequence[str], Sequence[str]], Float[np.ndarray, "N"]]:
    """The reward of prompt and response: the value at the response's end token.

    Args:
      model: a `ScalarModel`.
      params: its parameters.
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
    """The jitted (params, tokens [B,T], valid [B,T]) -> [B], the last valid value."""

    from rlhf_jax.models import last_values

    def score(params, tokens: Int[Array, "B T"], valid: Bool[Array, "B T"]):
        return last_values(model.apply({"params": params}, tokens, valid), valid)

    return jax.jit(score)


def load_reward(directory: str | os.PathLike, **options):
    """The reward function of a saved reward model; options as for `model_reward`.

    Raises:
      InputError: there is a language model.
    """
    from rlhf_jax.data import load_tokenizer
    from rlhf_jax.models import load_pretrained

    found = load_pretrained(directory)
    if found.kind != "scalar":
        raise InputError(f"{directory}: holds a {found.kind}, expected a reward model")
    tokenizer = load_tokenizer(found.path)
    return model_reward(found.model, found.params, tokenizer, **options)

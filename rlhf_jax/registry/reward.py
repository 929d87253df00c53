"""`Reward`: whatever gives a number for a prompt and a response.

A scalar model, an ensemble of them, an encoder of prompt and response, or a Python
function: each is given by name to `load_reward`, or as an object to `as_reward`, and
then is asked in one way, `reward.score(prompts, responses)`.

One rule says what a model reads of a text, in training and here: prompt ⊕ response ⊕
end token. A response of more than `max_response` tokens, its end token among them,
loses its end; a prompt keeps its last `max_prompt` tokens, and fewer where the context
ends. What was cut is counted in `counts`.
"""

import collections
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from rlhf_jax.data.account import Account
from rlhf_jax.errors import InputError
from rlhf_jax.models import EncoderRewardModel
from rlhf_jax.parallel import (
    CompiledFunction,
    compile_function,
    mesh_of,
    to_host,
    whole_rows,
)
from rlhf_jax.registry.directories import load_model, model_directory
from rlhf_jax.registry.encoder import WIDTH, EncoderReward, padded_rows
from rlhf_jax.registry.ensemble import (
    Combination,
    ensemble_of,
    members_of,
    reward_scores,
)
from rlhf_jax.registry.functions import FunctionReward, is_function, load_function
from rlhf_jax.registry.loaded import LoadedModel, require_reward_model

_LENGTHS = ("max_prompt", "max_response")


@runtime_checkable
class Reward(Protocol):
    """A number for a prompt and a response; higher is better.

    Attributes:
      name: what people call it.
      counts: what was cut, and what came without a score.
    """

    name: str
    counts: collections.Counter

    def score(
        self,
        prompts: Sequence[str],
        responses: Sequence[str],
        records: Sequence[Mapping[str, Any]] | None = None,
    ) -> Float[np.ndarray, " N"]:
        """One float32 number for each pair; NaN where there is no score.

        Args:
          prompts: N texts, or messages, read in the model's form.
          responses: N texts, without their end token.
          records: the fields of the records that the prompts came from, such as an
            answer key; functions get them, models look at their messages.
        """


@dataclasses.dataclass(frozen=True, eq=False)
class ModelReward:
    """A reward model, or an ensemble of them, as a `Reward`.

    Attributes:
      loaded: `ScalarModel` or `Ensemble`, params and tokenizer.
      max_prompt: tokens; None: what it was trained with, else the context.
      max_response: tokens with the end token; None: likewise.
      batch_size: rows forwarded together.
      name: what people call it.
      counts: "scored", "prompts cut", "responses cut".
    """

    loaded: LoadedModel
    max_prompt: int | None = None
    max_response: int | None = None
    batch_size: int = 64
    name: str = "reward model"
    counts: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def score(
        self,
        prompts: Sequence[str],
        responses: Sequence[str],
        records: Sequence[Mapping[str, Any]] | None = None,
    ) -> Float[np.ndarray, " N"]:
        """See `Reward.score`."""
        rows = self._rows(_said(prompts, records), responses)
        found = np.zeros(len(rows), np.float32)
        order = np.argsort([len(row) for row in rows], kind="stable")
        context = self.loaded.model.config.context_length
        count = whole_rows(self.batch_size, mesh_of(self.loaded.params))
        for start in range(0, len(order), count):
            some = order[start : start + count]
            width = min(-(-len(rows[some[-1]]) // WIDTH) * WIDTH, context)
            batch = self._batch([rows[i] for i in some], count, width)
            scores = _scores(self.loaded.model)(self.loaded.params, batch)
            found[some] = to_host(scores)[: len(some)]
        return found

    def _rows(
        self, prompts: Sequence[Any], responses: Sequence[str]
    ) -> list[list[int]]:
        """prompt ⊕ response ⊕ end token, each cut as the module says."""
        tokenizer, context = self.loaded.tokenizer, self.loaded.model.config
        context = context.context_length
        most_prompt = self._limit("max_prompt", context)
        most_response = self._limit("max_response", context)
        rows, form = [], self.loaded.form
        if form.name == "template" or not all(isinstance(p, str) for p in prompts):
            pairs = list(zip(prompts, responses, strict=True))
            asked = [form.prompt_ids(prompt) for prompt in prompts]
            said = [form.response_ids(prompt, response) for prompt, response in pairs]
        else:  # many at once
            begin = [] if tokenizer.begin_token is None else [tokenizer.begin_token]
            asked = [begin + ids for ids in tokenizer.encode_batch(list(prompts))]
            said = tokenizer.encode_batch(list(responses))
            said = [[*ids, tokenizer.end_token] for ids in said]
        for prompt, response in zip(asked, said, strict=True):
            kept = response[: min(most_response, context)]
            room = min(most_prompt, context - len(kept))
            rows.append(prompt[max(0, len(prompt) - room) :] + kept)
            self.counts["prompts cut"] += len(prompt) > room
            self.counts["responses cut"] += len(kept) < len(response)
        self.counts["scored"] += len(rows)
        return rows

    def _limit(self, name: str, context: int) -> int:
        given = getattr(self, name)
        return given or self.loaded.meta.get(name) or context

    def _batch(
        self, rows: list[list[int]], count: int, width: int
    ) -> dict[str, np.ndarray]:
        """Rows as `reward_scores` takes them: all of it response, no prompt."""
        pad = self.loaded.tokenizer.pad_token
        tokens, mask = padded_rows(rows, count, width, pad)
        none = np.zeros((count, 0))
        return {
            "prompts": none.astype(np.int32),
            "valid": none.astype(bool),
            "tokens": tokens,
            "mask": mask,
        }


def _said(
    prompts: Sequence[Any], records: Sequence[Mapping[str, Any]] | None
) -> list[Any]:
    """The messages of each record that has some, else its prompt."""
    if records is None:
        return list(prompts)
    pairs = zip(prompts, records, strict=True)
    return [record.get("messages") or prompt for prompt, record in pairs]


@functools.cache
def _scores(model: Any) -> CompiledFunction:
    """`(params, rows) -> scores` [B] of a model or an ensemble, where they lie."""

    def scores(params: Any, rows: dict) -> Float[Array, " B"]:
        return reward_scores(model, params, rows)["scores"]

    return compile_function(scores)


def load_reward_model(
    name: str | os.PathLike,
    *,
    combination: Combination = "mean",
    variance_coef: float = 0.1,
    mesh: Mesh | None = None,
    light: bool = False,
) -> LoadedModel:
    """Reads a reward model: one model directory, or an ensemble of them.

    Args:
      name: whatever `load_model` takes, or the directory of an ensemble.
      combination: how an ensemble's scores become one; ignored for a single model.
      variance_coef: λ of "uncertainty_weighted".
      mesh: see `load_model`.
      light: likewise.

    Returns:
      A model whose scores `reward_scores` gives; its dropout is off.

    Raises:
      InputError: nothing there, not a reward model, or members that do not fit.
      CheckpointError: parameters are damaged.
    """
    name = model_directory(name)
    members = members_of(name)
    loaded = [
        require_reward_model(load_model(folder, mesh=mesh, light=light), folder)
        for folder in members or [name]
    ]
    if members is None:
        return loaded[0]
    return ensemble_of(loaded, combination=combination, variance_coef=variance_coef)


def load_reward(
    name: str | os.PathLike,
    *,
    combination: Combination = "mean",
    variance_coef: float = 0.1,
    max_prompt: int | None = None,
    max_response: int | None = None,
    batch_size: int = 64,
    mesh: Mesh | None = None,
    light: bool = True,
) -> Reward:
    """The reward of a name.

    Args:
      name: a model directory, the directory of a stage or of an ensemble, a hub name,
        or `"python:FILE.py:NAME"`, a function of prompts, responses and records.
      combination: how an ensemble's scores become one.
      variance_coef: λ of "uncertainty_weighted".
      max_prompt: tokens; see `ModelReward`; of no meaning to an encoder.
      max_response: likewise.
      batch_size: rows forwarded together, or as many more as the mesh has places for.
      mesh: where a model is read to and runs; see `load_model`.
      light: keep a model as it computes; see `load_model`.

    Raises:
      InputError: nothing there, or not something that scores.
      CheckpointError: parameters are damaged.
    """
    if is_function(name):
        return load_function(str(name))
    loaded = load_reward_model(
        name,
        combination=combination,
        variance_coef=variance_coef,
        mesh=mesh,
        light=light,
    )
    limits = {"max_prompt": max_prompt, "max_response": max_response}
    shown = pathlib.Path(name).name or str(name)
    return as_reward(loaded, **limits, batch_size=batch_size, name=shown)


def as_reward(given: Any, *, name: str | None = None, **options: Any) -> Reward:
    """The reward that an object is: a model, a function, a `Reward`, or a name.

    Args:
      given: a `LoadedModel` with a scalar model, an ensemble or an encoder; a callable
        of `(prompts, responses)` or `(prompts, responses, records)`; a `Reward`, which
        is given back; or whatever `load_reward` takes.
      name: what people call it.
      **options: fields of `ModelReward`; ignored for a function. The lengths among
        them are the policy's: an encoder has its own, see `EncoderReward`.

    Raises:
      InputError: it scores nothing.
    """
    if isinstance(given, str | os.PathLike):
        return load_reward(given, **options)
    if isinstance(given, LoadedModel):
        what = {} if name is None else {"name": name}
        require_reward_model(given, name or "reward")
        if not isinstance(given.model, EncoderRewardModel):
            return ModelReward(given, **options, **what)
        options = {k: v for k, v in options.items() if k not in _LENGTHS}
        return EncoderReward(given, **options, **what)
    if isinstance(given, Reward):
        return given
    if isinstance(given, Callable):
        return FunctionReward(given, name or getattr(given, "__name__", "function"))
    raise InputError(
        f"reward: {type(given).__name__} scores nothing: expected a model directory, "
        "a loaded reward model, or a function of prompts and responses"
    )


def score_records(
    reward: Reward, records: Sequence[Any], responses: Sequence[str]
) -> Float[np.ndarray, " N"]:
    """Scores of responses to the prompts of records, conversations among them.

    Args:
      reward: what scores.
      records: N `Prompt`s.
      responses: N texts.
    """
    return reward.score(
        [record.prompt for record in records],
        responses,
        [record.model_dump() for record in records],
    )


def reward_account(reward: Reward) -> Account:
    """What became of the responses that a reward has scored so far."""
    counts = reward.counts
    account = Account(f"responses scored by {reward.name}", read=counts["scored"])
    account.drop("as without a score", counts["without a score"])
    for what in ("prompts", "responses"):
        account.cut_by_any(f"by the longest {what} it reads", counts[f"{what} cut"])
    return account


def reward_of(config: Any, **options: Any) -> Reward:
    """The reward that a stage's config names.

    Args:
      config: with `reward`, `ensemble`, `variance_coef`, `max_prompt` and
        `max_response`.
      **options: `mesh` and `light` of `load_reward`.
    """
    return load_reward(
        config.reward,
        combination=config.ensemble,
        variance_coef=config.variance_coef,
        max_prompt=config.max_prompt,
        max_response=config.max_response,
        **options,
    )

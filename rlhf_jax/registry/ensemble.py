"""Several reward models that score as one (Coste et al. 2023).

A policy finds what its reward model overrates; models that differ in nothing but their
seed rarely overrate the same. An ensemble is a directory with `ensemble.json`, which
names the members' model directories; it is read wherever a stage asks for a reward
model. All members score in one program: their parameters are stacked on a
leading axis and a loop on the device goes through them.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.errors import InputError
from rlhf_jax.losses import (
    ensemble_mean,
    ensemble_min,
    ensemble_uncertainty_weighted,
)
from rlhf_jax.models import EncoderRewardModel, adapter_of, with_changes
from rlhf_jax.models.responses import response_scores
from rlhf_jax.parallel import mesh_of, placed
from rlhf_jax.registry.adapters import merged_model
from rlhf_jax.registry.directories import ENSEMBLE
from rlhf_jax.registry.loaded import LoadedModel, require_one_tokenizer
from rlhf_jax.registry.seal import require_vouched, vouched
from rlhf_jax.storage import read_json, write_json

# how the members' scores become one; see `losses.ensemble_mean` and its neighbours
Combination = Literal["mean", "min", "uncertainty_weighted"]


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """The model of an ensemble; its params are the members', stacked to [E, ...].

    Attributes:
      member: `ScalarModel` of every member.
      combination: how E scores become one.
      variance_coef: λ of "uncertainty_weighted", one over the unit of the scores.
      one_base: the members are adapters of one base: what is stacked is their own.
    """

    member: Any
    combination: Combination
    variance_coef: float
    one_base: bool = False

    @property
    def config(self) -> Any:
        """The members' `TrunkConfig`."""
        return self.member.config

    def combined(self, scores: Float[Array, "E B"]) -> Float[Array, " B"]:
        """One score for each response."""
        if self.combination == "mean":
            return ensemble_mean(scores)
        if self.combination == "min":
            return ensemble_min(scores)
        return ensemble_uncertainty_weighted(scores, variance_coef=self.variance_coef)


def ensemble_of(
    members: Sequence[LoadedModel],
    *,
    combination: Combination = "mean",
    variance_coef: float = 0.1,
) -> LoadedModel:
    """Reward models as one; bring their scores to one scale first.

    Args:
      members: of one shape and one tokenizer; training centres each on the same
        demonstrations, which gives them one zero.
      combination: how their scores become one.
      variance_coef: λ of "uncertainty_weighted".

    Raises:
      InputError: no members, members of several shapes or tokenizers, encoders, or no
        such combination.
    """
    if combination not in get_args(Combination):
        known = ", ".join(get_args(Combination))
        raise InputError(f"ensemble: {combination!r} is not one of {known}")
    if not members:
        raise InputError("ensemble: it has no members")
    first = members[0]
    if isinstance(first.model, EncoderRewardModel):
        raise InputError("ensemble: of encoders there is none: expected decoders")
    for number, member in enumerate(members[1:], 1):
        if member.model != first.model:
            raise InputError(f"ensemble: member {number} has another shape than 0")
        require_one_tokenizer(first, member, f"ensemble: members 0 and {number}")
    own = _one_base(members)
    trees = [adapter_of(m.params) for m in members] if own else None
    if not own:
        members = [merged_model(member) for member in members]
        trees = [member.params for member in members]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    mesh = mesh_of(first.params)
    if mesh.size > 1:
        params = placed(params, mesh)
    model = Ensemble(first.model, combination, variance_coef, one_base=own)
    meta = {"members": len(members)}
    if not own:
        return LoadedModel(model, params, first.tokenizer, meta)
    params = with_changes(first.params, params)
    return LoadedModel(model, params, first.tokenizer, meta, adapter=first.adapter)


def _one_base(members: Sequence[LoadedModel]) -> bool:
    """Whether all members are adapters of one kind and one base."""
    adapters = [member.adapter for member in members]
    if None in adapters:
        return False
    first = adapters[0]
    return all(
        a.base is first.base and a.config.same_function(first.config) for a in adapters
    )


def first_member(reward: LoadedModel) -> LoadedModel:
    """The first member of an ensemble; a single reward model is its own."""
    model = reward.model
    if not isinstance(model, Ensemble):
        return reward
    first = functools.partial(jax.tree.map, lambda leaf: leaf[0])
    if model.one_base:
        params = with_changes(reward.params, first(adapter_of(reward.params)))
    else:
        params = first(reward.params)
    return dataclasses.replace(reward, model=model.member, params=params)


def member_scores(model: Ensemble, params: Any, batch: dict) -> Float[Array, "E B"]:
    """What each member says of each response; `batch` as for `response_scores`."""

    def scores(one: Any) -> Float[Array, " B"]:
        whole = with_changes(params, one) if model.one_base else one
        return response_scores(model.member, whole, batch)

    return jax.lax.map(scores, adapter_of(params) if model.one_base else params)


def reward_scores(model: Any, params: Any, batch: dict) -> dict[str, Array]:
    """The scores of responses by a reward model or an ensemble.

    Args:
      model: `ScalarModel` or `Ensemble`.
      params: its params.
      batch: `prompts [B,P]` left padded, `valid [B,P]`, `tokens [B,R]`, `mask [B,R]`.

    Returns:
      `scores` [B] and, of an ensemble, `score_spread` [B]: the standard deviation over
      its members (1/E).
    """
    if not isinstance(model, Ensemble):
        return {"scores": response_scores(model, params, batch)}
    scores = member_scores(model, params, batch)
    return {"scores": model.combined(scores), "score_spread": jnp.std(scores, axis=0)}


def save_ensemble(
    directory: str | pathlib.Path, members: Sequence[str], meta: dict[str, Any]
) -> None:
    """Writes the directory of an ensemble.

    Args:
      directory: where; made if absent.
      members: model directories, relative to it (or absolute); stored relative, so
        that the run may move.
      meta: JSON-able; stored with it.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    here = [os.path.relpath(directory / m, directory) for m in members]
    text = vouched({"members": here, "meta": meta})
    write_json(directory / ENSEMBLE, text, sort_keys=True)


def members_of(name: str | pathlib.Path) -> list[pathlib.Path] | None:
    """The model directories of an ensemble's members; None if it is no ensemble.

    Raises:
      InputError: its description cannot be read.
    """
    marker = pathlib.Path(name) / ENSEMBLE
    if not marker.is_file():
        return None
    text = read_json(marker)
    members = text.get("members")
    if not isinstance(members, list) or set(text) - {"members", "meta", "checksum"}:
        raise InputError(f"{marker}: not the description of an ensemble")
    if not all(isinstance(member, str) and member for member in members):
        raise InputError(f"{marker}: members: expected names of directories")
    require_vouched(marker, text)
    return [marker.parent / member for member in members]

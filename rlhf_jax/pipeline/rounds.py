"""Going round again: InstructGPT's steps 2 and 3 are repeated (section 3.1).

    round n   candidates_n   new responses, by the supervised policies and round n-1's
              reward_n       trained anew on the rankings of all rounds so far
              ppo_n          from the same initialisation, against the new reward model

As in the paper most candidates come from supervised policies and some from PPO: those
of round 1 still write, and the last round's policy writes its share beside them.

Online DPO needs neither a reward model of its own nor PPO: the policy answers, whoever
ranks compares its answers, and it is trained on these pairs before it answers again.

    round n   candidates_n   new responses, all by the policy of round n-1
              dpo_n          goes on from that policy, on these rankings alone; the
                             reference stays that of round 1

Rounds are ordinary stages, so one is skipped, cut and continued like any other; whoever
ranks stands behind `candidates.Config.labelers` or its `reward`, and a round that waits
for people stops there.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rlhf_jax.errors import InputError

__all__ = ["online_rounds", "rounds"]


def rounds(
    stages: Mapping[str, Any],
    count: int,
    *,
    candidates: str = "candidates",
    reward: str = "reward",
    ppo: Sequence[str] = ("ppo",),
    labelers: str | None = None,
) -> dict[str, Any]:
    """The stages of an experiment with `count` rounds of feedback instead of one.

    Args:
      stages: stage name -> config, with one round in it.
      count: rounds of the result; 1 changes nothing.
      candidates: name of the stage that collects rankings.
      reward: name of the reward model.
      ppo: names of the policies trained against it; the last one's policy writes
        candidates of the next round.
      labelers: who ranks from round 2 on; None: who ranked in round 1.

    Returns:
      A new dict: `stages`, then `candidates_2`, `reward_2`, `ppo_2`, `candidates_3`
      and so on. A config of round n refers to round n's stages where that of round 1
      refers to round 1's.

    Raises:
      InputError: a name that is no stage, or fewer rounds than one.
    """
    _require(stages, count, candidates, reward, *ppo)
    made = dict(stages)
    for number in range(2, count + 1):
        names = {name: f"{name}_{number}" for name in (candidates, reward, *ppo)}
        before = ppo[-1] if number == 2 else f"{ppo[-1]}_{number - 1}"
        policies = (*stages[candidates].policies, f"@{before}/model")
        made[names[candidates]] = _asked(stages[candidates], number, policies, labelers)
        made[names[reward]] = dataclasses.replace(
            stages[reward],
            rankings=(
                *stages[reward].rankings,
                *(f"@{candidates}_{n}/rankings.jsonl" for n in range(2, number + 1)),
            ),
        )
        for name in ppo:
            made[names[name]] = _renamed(stages[name], names)
    return made


def online_rounds(
    stages: Mapping[str, Any],
    count: int,
    *,
    candidates: str = "candidates",
    dpo: str = "dpo",
    labelers: str | None = None,
) -> dict[str, Any]:
    """The stages of an experiment with `count` rounds of DPO instead of one.

    Args:
      stages: stage name -> config, with one round in it.
      count: rounds of the result; 1 changes nothing.
      candidates: name of the stage that collects the rankings. With its `reward` a
        reward model ranks, with its `best_and_worst` as pairs.
      dpo: name of the stage that trains on them; of any loss.
      labelers: who ranks from round 2 on; None: who or what ranked in round 1.

    Returns:
      A new dict: `stages`, then `candidates_2`, `dpo_2`, `candidates_3` and so on.

    Raises:
      InputError: a name that is no stage, or fewer rounds than one.

    Source: Guo et al. 2024 (Direct language model alignment from online AI feedback):
      pairs of the current policy, one reference throughout; Dong et al. 2024 (RLHF
      workflow): in rounds, best against worst of several responses.
    Differs: Guo et al. sample anew for each update, here for each round, whose
      optimizer starts afresh; Dong et al. train on the pairs of all rounds.
    """
    _require(stages, count, candidates, dpo)
    made, first = dict(stages), stages[dpo]
    for number in range(2, count + 1):
        policy = f"@{dpo if number == 2 else f'{dpo}_{number - 1}'}/model"
        made[f"{candidates}_{number}"] = _asked(
            stages[candidates], number, (policy,), labelers
        )
        made[f"{dpo}_{number}"] = dataclasses.replace(
            first,
            init=policy,
            reference=(first.reference or first.init) if first.has_reference else "",
            rankings=(f"@{candidates}_{number}/rankings.jsonl",),
        )
    return made


def _require(stages: Mapping[str, Any], count: int, *names: str) -> None:
    if count < 1:
        raise InputError(f"rounds: {count} is not at least 1")
    if unknown := [name for name in names if name not in stages]:
        known = ", ".join(stages)
        raise InputError(f"rounds: no stage {', '.join(unknown)}; there are {known}")


def _asked(
    config: Any, number: int, policies: tuple[str, ...], labelers: str | None
) -> Any:
    """The candidates of a round, by other policies and maybe for other labelers."""
    who = {"labelers": labelers, "reward": ""} if labelers else {}
    number += config.round - 1
    return dataclasses.replace(config, policies=policies, round=number, **who)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """A config with every reference to a stage in `names` to its new name."""
    if isinstance(value, str):
        stage, slash, path = value.removeprefix("@").partition("/")
        known = value.startswith("@") and stage in names
        return f"@{names[stage]}{slash}{path}" if known else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value)]
        changes = {name: _renamed(getattr(value, name), names) for name in fields}
        return dataclasses.replace(value, **changes)
    if isinstance(value, tuple):
        return tuple(_renamed(item, names) for item in value)
    if isinstance(value, Mapping):
        return {key: _renamed(item, names) for key, item in value.items()}
    return value

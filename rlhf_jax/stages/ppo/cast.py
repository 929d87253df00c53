"""Who takes part in PPO, and the params of each role.

Policy, reference, reward and value are four roles and up to four models. Whole models
have their own params each. Adapters of one base have the base once: it is frozen, an
argument of every program, and what is each role's own is small.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from rlhf_jax.registry import LoadedModel, ModelReward, Reward, light_params
from rlhf_jax.stages.split import Split, split, split_reference

__all__ = ["Cast", "Players"]


@dataclasses.dataclass(frozen=True)
class Players:
    """Who takes part. `policy` is also the frozen reference.

    Attributes:
      policy: a language model.
      value: a scalar model; None where advantages need none.
      reward: what scores.
    """

    policy: LoadedModel
    value: LoadedModel | None
    reward: Reward

    @property
    def reward_model(self) -> Any:
        """The reward's model, where it reads the policy's own tokens; else None."""
        if not isinstance(self.reward, ModelReward):
            return None
        loaded = self.reward.loaded
        return loaded.model if loaded.form.name == self.policy.form.name else None

    @property
    def reward_params(self) -> Any:
        """The params of `reward_model`, or None."""
        return None if self.reward_model is None else self.reward.loaded.params

    def released(self) -> "Players":
        """The same without the params that a state and `Cast` have taken over."""
        reward = self.reward
        if self.reward_model is not None:
            reward = dataclasses.replace(reward, loaded=reward.loaded.released())
        value = self.value and self.value.released()
        return Players(self.policy.released(), value, reward)


@dataclasses.dataclass(frozen=True)
class Cast:
    """The params of all roles, each thing once.

    Attributes:
      roles: role -> how its params come of its own.
      first: the first params of what is trained, policy and value.
      frozen: "bases" by their hash, and what is the reference's and the reward's own.
    """

    roles: Mapping[str, Split]
    first: dict[str, Any]
    frozen: dict[str, Any]

    @classmethod
    def of(cls, players: Players, *, light: bool = False) -> "Cast":
        """The cast of some players.

        Args:
          players: with their params.
          light: whole models that are frozen are kept in the dtype that they compute
            in; see `registry.load_model`.
        """
        policy, own = split(players.policy)
        roles, first = {"policy": policy, "reference": policy}, {"policy": own}
        frozen = {"reference": own}
        if players.value is not None:
            roles["value"], first["value"] = split(players.value)
        if players.reward_model is not None:
            found = split_reference(players.reward.loaded, policy)
            roles["reward"], frozen["reward"] = found
        for role in ("reference", "reward") if light else ():
            if role in frozen and roles[role].adapter is None:
                frozen[role] = light_params(roles[role].shell.model, frozen[role])
        bases = [role.adapter.base for role in roles.values() if role.adapter]
        frozen["bases"] = {base.digest: base.params for base in bases}
        return cls(roles, first, frozen)

    def whole(self, own: Mapping[str, Any], bases: Mapping[str, Any]) -> dict[str, Any]:
        """role -> params of its model, of the roles that are given; without dropout."""

        def one(role: str, params: Any) -> Any:
            adapter = self.roles[role].adapter
            base = None if adapter is None else bases[adapter.base.digest]
            return self.roles[role].whole(params, base)

        return {role: one(role, params) for role, params in own.items()}

    def of_whole(self, function: Callable) -> Callable[[dict, Any], Any]:
        """`(params by role, batch) -> ..`, as a function of own params and "bases"."""

        def of_own(params: dict, batch: Any) -> Any:
            own = {role: part for role, part in params.items() if role != "bases"}
            return function(self.whole(own, params.get("bases", {})), batch)

        return of_own

    def terms(self, terms: Mapping[str, Callable]) -> dict[str, Callable]:
        """Terms of an update, of whole params, as terms of own ones and the bases."""
        if not self.frozen["bases"]:
            return dict(terms)

        def of_own(term: Callable) -> Callable:
            def loss(params: dict, batch: dict, rng: Any, frozen: Any) -> tuple:
                return term(self.whole(params, frozen), batch, rng)

            return loss

        return {name: of_own(term) for name, term in terms.items()}

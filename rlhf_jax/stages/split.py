"""A model in two parts: what is its own, and the base that it shares with others.

Of a whole model all is its own, and there is no base. Of an adapter its own are the
narrow matrices and the head; the base is frozen, and an argument of the update, once
for all that stand on it. Losses stay functions of whole params.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from rlhf_jax.models import LoRA, adapted, adapter_of
from rlhf_jax.registry import (
    Adapter,
    LoadedModel,
    merged_model,
    on_base,
    with_adapter,
)
from rlhf_jax.sampling.randomness import named_key
from rlhf_jax.training.gradients import takes_frozen

__all__ = ["Split", "split", "split_reference", "split_start"]


@dataclasses.dataclass(frozen=True)
class Split:
    """How the params of a model come of its own ones.

    Attributes:
      shell: the model; its params are None, so that the first ones are not kept in
        memory for as long as the run.
    """

    shell: LoadedModel

    @property
    def adapter(self) -> Adapter | None:
        """What the model is a change of; None: it is whole."""
        return self.shell.adapter

    @property
    def base(self) -> Any:
        """The params of the base; None: there is none."""
        return None if self.adapter is None else self.adapter.base.params

    def whole(self, own: Any, base: Any = None, rng: Any = None) -> Any:
        """The params of the model; no copy of either part.

        Args:
          own: what is the model's own.
          base: that of `base`, where a program has it as an argument.
          rng: for the dropout of an adapter; None: none.
        """
        if self.adapter is None:
            return own
        base = self.base if base is None else base
        return adapted(base, own, self.adapter.config, rng)

    def loaded(self, own: Any) -> LoadedModel:
        """The model with its own params."""
        return dataclasses.replace(self.shell, params=self.whole(own))

    def frozen(self, beside: Any = None) -> Any:
        """The `frozen` of an update: the base, and what its loss wants frozen."""
        if self.adapter is None:
            return beside
        made = {"base": self.base}
        return made if beside is None else made | {"beside": beside}

    def loss(self, loss_fn: Callable, beside: "Split | None" = None) -> Callable:
        """A loss of whole params as a loss of own ones, with the `frozen` of `frozen`.

        Args:
          loss_fn: `(params, batch, rng) -> (sum, metrics)`, or one that takes `frozen`
            too, the whole params of another model.
          beside: how those come of what was given to `frozen`.
        """
        if self.adapter is None:
            return loss_fn

        def with_base(own: Any, batch: dict, rng: Any, frozen: Any) -> tuple:
            whole = self.whole(own, frozen["base"], rng)
            if not takes_frozen(loss_fn):
                return loss_fn(whole, batch, rng)
            other = beside.whole(frozen["beside"], frozen["base"])
            return loss_fn(whole, batch, rng, frozen=other)

        return with_base

    def prepare(self, function: Callable, beside: "Split") -> Callable:
        """`(params, batch, frozen) -> batch` of whole params, as one of own ones."""
        if self.adapter is None:
            return function

        def with_base(own: Any, batch: dict, frozen: Any) -> dict:
            base = frozen["base"]
            other = beside.whole(frozen["beside"], base)
            return function(self.whole(own, base), batch, other)

        return with_base


def split(loaded: LoadedModel) -> tuple[Split, Any]:
    """A model in two parts: how they join, and its own params (None: released)."""
    # what is trained is no longer what the source holds
    shell = dataclasses.replace(loaded, params=None, source=None)
    if loaded.adapter is None or loaded.params is None:
        return Split(shell), loaded.params
    return Split(shell), adapter_of(loaded.params)


def split_start(
    start: LoadedModel, config: LoRA | None, seed: int
) -> tuple[Split, Any]:
    """What training begins with.

    Args:
      start: whole, or an adapter.
      config: of the adapter that is trained; None: the whole model is, and an adapter
        that it was is added to its matrices.
      seed: of a fresh adapter.

    Raises:
      InputError: see `registry.with_adapter`.
    """
    if config is None:
        return split(merged_model(start))
    key = named_key(jax.random.key(seed), "adapter")
    return split(with_adapter(start, config, key))


def split_reference(model: LoadedModel, of: Split) -> tuple[Split, Any]:
    """A model that another is compared with, or scored by; on its base where it can.

    Args:
      model: whole, or an adapter.
      of: the other.

    Returns:
      Where both have one base, how that and the model's own params join. Else all
      params are the model's own, those of another base among them.
    """
    if of.adapter is not None:
        model = on_base(model, of.adapter)
        if model.adapter is not None and model.adapter.base is of.adapter.base:
            return split(model)
    return split(dataclasses.replace(model, adapter=None))

"""The memory of a stage that trains adapters: one base, and small trees beside it."""

import dataclasses
import math
from typing import Any

import jax

from rlhf_jax.models import (
    LanguageModel,
    LoRA,
    TrunkConfig,
    abstract_params,
    base_params,
    init_adapter,
)

__all__ = ["AdapterMemory", "memory_of_adapters", "root_of"]


@dataclasses.dataclass(frozen=True)
class AdapterMemory:
    """What a stage holds.

    Attributes:
      trained: parameters.
      base_bytes: of the base.
      total_bytes: base, models that do not stand on it, and the trees of all roles with
        gradient and moments where they are trained, and the policy's EMA.
      roles: that stand on the base.
      all_roles: that there are; policy alone, or with reference, reward and value.
    """

    trained: int
    base_bytes: int
    total_bytes: int
    roles: int
    all_roles: int


def memory_of_adapters(
    kind: str, config: Any, shape: TrunkConfig, stages: dict, shapes: dict
) -> AdapterMemory:
    """The memory of a stage with an adapter.

    Args:
      kind: "sft", "reward", "dpo" or "ppo".
      config: of the stage.
      shape: of its model.
      stages: of the experiment, by name.
      shapes: of the stages' models.
    """
    tree, base = adapter_sizes(shape, config.adapter)
    headed = tree + shape.embed_dim + 1
    if kind != "ppo":
        trained = headed if kind == "reward" else tree
        reference = kind == "dpo" and config.has_reference
        total = base + 16 * trained + 4 * tree * reference
        roles = 1 + reference
        if reference and config.reference:
            apart = root_of(config.reference, stages) != root_of(config.init, stages)
            total, roles = total + base * apart, roles - apart
        return AdapterMemory(trained, base, total, roles, 1 + reference)
    has_value = config.advantages == "gae"
    trained = tree + headed * has_value
    total = base + 16 * trained + 4 * tree + 4 * tree  # EMA, reference
    apart, scored = _reward(config, shape, headed, stages, shapes)
    roles = 3 + has_value
    # the value function starts from the reward model
    off = (1 + has_value) if apart else 0
    return AdapterMemory(trained, base, total + apart + scored, roles - off, roles)


def _reward(
    config: Any, shape: TrunkConfig, headed: int, stages: dict, shapes: dict
) -> tuple[int, int]:
    """Bytes of a reward model that does not share the base; of its tree if it does."""
    source = config.reward[1:].split("/")[0] if config.reward.startswith("@") else ""
    members = len(getattr(stages.get(source), "seeds", ())) or 1
    scorer = getattr(stages.get(source), "adapter", None)
    same = root_of(config.reward, stages) == root_of(config.init, stages)
    if scorer is not None and same:
        return 0, 4 * headed * members
    scores = shapes.get(source, shape)
    if not isinstance(scores, TrunkConfig):
        return 0, 4 * headed
    whole = sum(math.prod(leaf.shape) for leaf in _leaves(scores))
    _, base = adapter_sizes(scores, config.adapter)
    return 4 * whole * members + base, 0


def adapter_sizes(shape: TrunkConfig, lora: LoRA) -> tuple[int, int]:
    """(parameters of an adapter, bytes of its base); nothing is allocated."""
    params = abstract_params(LanguageModel(shape))
    base = jax.eval_shape(lambda p: base_params(p, lora.base_dtype), params)
    key = jax.eval_shape(lambda: jax.random.key(0))
    tree = jax.eval_shape(lambda b, k: init_adapter(lora, b, k), base, key)
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
    size = sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(base)
    )
    return count, size


def _leaves(shape: TrunkConfig) -> list[Any]:
    return jax.tree.leaves(abstract_params(LanguageModel(shape)))


def root_of(name: str, stages: dict) -> str:
    """The base that the model of a name stands on: the first whole one on its way."""
    while name.startswith("@"):
        stage = stages.get(name[1:].split("/")[0])
        if getattr(stage, "adapter", None) is None or not stage.init:
            return name.split("/")[0]
        name = stage.init
    return name

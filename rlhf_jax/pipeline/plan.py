"""The plan of an experiment: parameters, memory and steps, without allocating a model.

`rlhf-jax run x.py --dry-run` prints it, on a laptop for 175B too: shapes come from
`jax.eval_shape`, so nothing larger than the config is ever made.
"""

import contextlib
import dataclasses
import functools
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import jax

from rlhf_jax.errors import InputError
from rlhf_jax.models import (
    EncoderConfig,
    EncoderRewardModel,
    LanguageModel,
    TrunkConfig,
    abstract_params,
    encoder_shapes,
    is_encoder,
    pretrained_shapes,
)
from rlhf_jax.pipeline.adapter_plan import memory_of_adapters
from rlhf_jax.pipeline.experiment import Experiment, kind_of
from rlhf_jax.registry.directories import model_directory, read_description
from rlhf_jax.registry.ensemble import members_of

__all__ = ["StagePlan", "describe", "plans"]

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
GIB = 2**30


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """One line of the plan.

    Attributes:
      name: of the stage.
      kind: of the stage.
      params: trained parameters; None where no model is trained.
      state_bytes: parameters, moments, EMA and gradients in float32, and frozen
        copies, over all devices.
      activation_bytes: what the backward pass keeps of one micro-batch, an estimate.
      steps: updates (PPO: iterations); None where it depends on data not there yet.
      note: what else a person should know.
    """

    name: str
    kind: str
    params: int | None = None
    state_bytes: int | None = None
    activation_bytes: int | None = None
    steps: int | None = None
    note: str = ""


def plans(experiment: Experiment) -> Iterator[StagePlan]:
    """The plan of each stage, in order."""
    shapes = shapes_of(experiment)
    for name, config in experiment.stages.items():
        kind, shape = kind_of(config), shapes.get(name)
        maker = {
            "pretrain": _pretrain,
            "sft": _supervised,
            "reward": _reward,
            "dpo": _dpo,
            "ppo": functools.partial(_ppo, experiment.stages),
        }.get(kind)
        if maker is None or shape is None:
            yield StagePlan(name, kind)
        else:
            plan = maker(name, kind, config, shape, shapes)
            if getattr(config, "adapter", None) is not None:
                plan = by_adapter(plan, config, shape, experiment.stages, shapes)
            yield plan


Shape = TrunkConfig | EncoderConfig


def shapes_of(experiment: Experiment) -> dict[str, Shape]:
    """Stage name -> shape of the model that it trains, where it can be known."""
    shapes: dict[str, Shape] = {}
    for name, config in experiment.stages.items():
        shape = getattr(config, "model", None) or getattr(config, "encoder", None)
        if shape is None:
            with contextlib.suppress(InputError):  # told by `pipeline.checks`
                shape = shape_of_model(getattr(config, "init", None), shapes)
        if shape is not None:
            shapes[name] = shape
    return shapes


def shape_of_model(name: str | None, shapes: dict[str, Shape]) -> Shape | None:
    """The shape of a model that a config names; None where it is not known yet.

    Args:
      name: `"@stage/model"`, a directory or a hub name; the hub is not asked.
      shapes: of the stages.

    Raises:
      InputError: there is a directory, but of no model that can be read.
    """
    if not name:
        return None
    if name.startswith("@"):
        return shapes.get(name[1:].split("/")[0])
    if not pathlib.Path(name).is_dir():
        return None
    folder = pathlib.Path(model_directory(name))
    folder = (members_of(folder) or [folder])[0]
    if (folder / "model.json").is_file():
        return read_description(folder)[0].config
    return (encoder_shapes if is_encoder(folder) else pretrained_shapes)(folder).config


def count_params(shape: Shape) -> int:
    """Parameters of a language model, or of an encoder reward model, of this shape."""
    encoder = isinstance(shape, EncoderConfig)
    model = (EncoderRewardModel if encoder else LanguageModel)(shape)
    return sum(
        math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract_params(model))
    )


def kept_bytes(config: Any, shape: Shape, *, rollout: bool = False) -> int:
    """Bytes that the backward pass of one micro-batch keeps, all layers and devices.

    The products of matrices are kept, everything between is computed again: about
    q, k, v, attention's output, two of the MLP's width and the residual, per token.

    Args:
      config: of a stage that trains.
      shape: of its model; with remat="full" a layer keeps its input alone.
      rollout: instead, the keys and values of a rollout.
    """
    if rollout:
        return _cache(shape, config)
    width = shape.embed_dim
    mlp = shape.mlp_dim or 4 * width
    each = 6 * width + 2 * mlp
    if getattr(shape, "remat", "products") == "full":
        each = width
    return shape.num_layers * _tokens(config) * each * _BYTES[shape.dtype]


def _tokens(config: Any) -> int:
    """Tokens of the widest micro-batch of a stage."""
    rows = getattr(config, "minibatch_size", config.batch_size) // config.microbatches
    if hasattr(config, "window"):
        return rows * config.window
    tokens = rows * (config.max_prompt + config.max_response)
    if hasattr(config, "max_k"):  # a prompt and its responses
        return rows * (config.max_prompt + config.max_k * config.max_response)
    if getattr(config, "ptx_coef", 0):
        return max(tokens, rows * config.ptx_per_episode * config.ptx_window)
    return tokens


def _state(params: int, *, ema: bool = False) -> int:
    return 4 * params * (4 + ema)  # parameters, gradient, two moments, EMA


def _pretrain(name: str, kind: str, config: Any, shape: Any, _: Any) -> StagePlan:
    params = count_params(shape)
    kept = kept_bytes(config, shape)
    return StagePlan(name, kind, params, _state(params), kept, config.steps)


def _supervised(name: str, kind: str, config: Any, shape: Any, _: Any) -> StagePlan:
    params = count_params(shape)
    note = f"{config.epochs} epochs of {config.batch_size} rows per update"
    if getattr(config, "seeds", ()):
        note += f", {len(config.seeds)} models one after the other"
    return StagePlan(
        name,
        kind,
        params,
        _state(params),
        kept_bytes(config, shape),
        note=note,
    )


def _reward(name: str, kind: str, config: Any, shape: Any, shapes: Any) -> StagePlan:
    plan = _supervised(name, kind, config, shape, shapes)
    if not config.frozen:
        return plan
    texts = 2 if isinstance(shape, EncoderConfig) else 1  # prompt ⊕ response
    head = texts * shape.embed_dim + 1
    state = 4 * plan.params + _state(head)
    return dataclasses.replace(plan, params=head, state_bytes=state, activation_bytes=0)


def _dpo(name: str, kind: str, config: Any, shape: Any, shapes: Any) -> StagePlan:
    plan = _supervised(name, "reward", config, shape, shapes)
    reference = 4 * plan.params if config.has_reference else 0
    return dataclasses.replace(
        plan, kind=kind, state_bytes=plan.state_bytes + reference
    )


def _ppo(
    stages: dict, name: str, kind: str, config: Any, shape: Any, shapes: Any
) -> StagePlan:
    policy = count_params(shape)
    source = config.reward[1:].split("/")[0]
    scores = shapes.get(source, shape)
    reward = count_params(scores)
    # beside an encoder the value function starts from the policy
    value = policy if isinstance(scores, EncoderConfig) else reward
    members = len(getattr(stages.get(source), "seeds", ())) or 1
    trained = value if config.advantages == "gae" else 0
    state = _state(policy, ema=True) + _state(trained)
    frozen = 4 * (policy + members * reward)
    cache = kept_bytes(config, shape, rollout=True)
    return StagePlan(
        name,
        kind,
        policy + trained,
        state + frozen,
        kept_bytes(config, shape),
        config.iterations,
        f"{config.iterations * config.minibatches} updates; KV cache "
        f"{cache / GIB:.2f} GiB",
    )


def by_adapter(
    plan: StagePlan, config: Any, shape: Any, stages: dict, shapes: dict
) -> StagePlan:
    """The plan of a stage that trains an adapter: one base and small trees."""
    memory = memory_of_adapters(plan.kind, config, shape, stages, shapes)
    note = (
        f"adapter of rank {config.adapter.rank}: base {memory.base_bytes / GIB:.2f} GiB"
        f" once for {memory.roles} of {memory.all_roles}, {plan.note}"
    )
    return dataclasses.replace(
        plan, params=memory.trained, state_bytes=memory.total_bytes, note=note
    )


def _cache(shape: TrunkConfig, config: Any) -> int:
    heads = shape.num_kv_heads or shape.num_heads
    width = shape.head_dim or shape.embed_dim // shape.num_heads
    length = config.max_prompt + config.max_response
    per_token = 2 * shape.num_layers * heads * width * _BYTES[shape.dtype]
    return config.batch_size * length * per_token


def describe(experiment: Experiment) -> str:
    """The plan as a table for people."""
    header = ("stage", "kind", "parameters", "state GiB", "kept GiB", "steps", "note")
    rows = [header]
    for plan in plans(experiment):
        rows.append(
            (
                plan.name,
                plan.kind,
                "" if plan.params is None else f"{plan.params:,}",
                _gib(plan.state_bytes),
                _gib(plan.activation_bytes),
                "" if plan.steps is None else f"{plan.steps:,}",
                plan.note,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if 2 <= i <= 5 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.append(
        f"\nmesh {experiment.settings.mesh!r} on {jax.device_count()} "
        f"{jax.default_backend()} device(s). State: float32 parameters, gradient, "
        "moments, EMA and frozen models, over all devices; kept: estimate of what the "
        "backward pass of one micro-batch holds."
    )
    return "\n".join(lines)


def _gib(count: int | None) -> str:
    return "" if count is None else f"{count / GIB:,.2f}"

"""The programs of a stage at the sizes that its config names, without data or models.

What `rlhf-jax run --dry-run --topology` compiles, and the tests of partitioning: the
same losses, updates and rollouts that the stages run, on shapes.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from rlhf_jax import parallel
from rlhf_jax.experience import make_assess
from rlhf_jax.models import LanguageModel, ScalarModel, TrunkConfig, init_params
from rlhf_jax.parallel.feeding import check_batch
from rlhf_jax.registry.loaded import light_params
from rlhf_jax.sampling import SamplingSpec
from rlhf_jax.sampling.generation import rollout_program
from rlhf_jax.sampling.layout import rollout_shardings
from rlhf_jax.stages import dpo, likelihood, reward
from rlhf_jax.stages.ppo.objective import make_loss as ppo_loss
from rlhf_jax.training import (
    first_loss_scale,
    init_state,
    make_optimizer,
    make_update,
)

__all__ = ["Program", "programs"]

_INT, _FLOAT, _BOOL = jnp.int32, jnp.float32, jnp.bool_


@dataclasses.dataclass(frozen=True)
class Program:
    """A program of a stage, to be compiled.

    Attributes:
      name: "update", "assess" or "rollout".
      traced: compiles nothing yet: gives what `jitted.trace` does.
      arguments: shapes with their places.
      beside: shapes with their places of what lies on the devices meanwhile: the
        state while a rollout is written.
      turns: of its loop over tokens, at most.
      runs: how often, per update of a stage or iteration of PPO.
    """

    name: str
    traced: Callable[[], Any]
    arguments: Any
    beside: Any = None
    turns: int = 1
    runs: int = 1


def programs(
    kind: str, config: Any, shapes: dict[str, TrunkConfig], mesh: Mesh
) -> Iterator[Program]:
    """The programs of a stage.

    Args:
      kind: of the stage; of "pretrain", "sft", "reward", "dpo" and "ppo" there are
        some, of others none.
      config: of the stage.
      shapes: "model" is the one that is trained; for PPO "reward" too.
      mesh: where.

    Raises:
      InputError: rows that cannot be cut over the mesh.
    """
    found = {
        "pretrain": _likelihood,
        "sft": _likelihood,
        "reward": _reward,
        "dpo": _dpo,
        "ppo": _ppo,
    }.get(kind)
    if found is not None:
        yield from found(config, shapes, mesh)


def _likelihood(config: Any, shapes: dict, mesh: Mesh) -> Iterator[Program]:
    shape, rows = shapes["model"], config.batch_size
    if hasattr(config, "window"):
        length = config.window
    else:
        length = config.max_prompt + config.max_response
        changes = {"residual_dropout": config.residual_dropout}
        changes |= {"dtype": config.dtype} if config.dtype else {}
        shape = dataclasses.replace(shape, **changes)
    model = LanguageModel(shape)
    batch = _texts(mesh, rows, length)
    yield _trained(config, likelihood.make_loss(model), _fresh(model), batch, mesh)


def _reward(config: Any, shapes: dict, mesh: Mesh) -> Iterator[Program]:
    changes = {"residual_dropout": config.residual_dropout}
    model = ScalarModel(dataclasses.replace(shapes["model"], **changes))
    loss = reward.make_loss(model)
    yield _trained(config, loss, _fresh(model), _rankings(config, mesh), mesh)


def _dpo(config: Any, shapes: dict, mesh: Mesh) -> Iterator[Program]:
    model = LanguageModel(shapes["model"])
    frozen = None
    if config.has_reference:
        frozen = _placed(_shapes(_light(model, _fresh(model)), mesh), mesh)
    batch, prepare = _rankings(config, mesh), None
    if config.loss == "kto":
        prepare = dpo.kl_baseline(model)
    loss = dpo.make_loss(model, config)
    yield _trained(config, loss, _fresh(model), batch, mesh, frozen, prepare)


def _ppo(config: Any, shapes: dict, mesh: Mesh) -> Iterator[Program]:
    shape = dataclasses.replace(shapes["model"], residual_dropout=0.0)
    policy = LanguageModel(shape)
    scores = ScalarModel(dataclasses.replace(shapes["reward"], residual_dropout=0.0))
    value = scores if config.advantages == "gae" else None
    frozen = {
        "reference": _light(policy, _fresh(policy)),
        "reward": _light(scores, _fresh(scores)),
    }
    frozen = {n: _placed(_shapes(make, mesh), mesh) for n, make in frozen.items()}
    update = _ppo_update(config, policy, value, mesh, frozen)
    state = update.arguments[0]
    yield _rollout(config, policy, mesh, (state, frozen))
    rows = {"finished": ((config.batch_size,), _BOOL)}
    batch = _samples(config, mesh, config.batch_size) | _arrays(mesh, **rows)
    assess = parallel.compile_function(
        make_assess(policy, scores, value, temperature=config.temperature), mesh
    )
    params = frozen | dict(state.params)
    rest = (state.opt_state, state.ema)
    yield Program("assess", lambda: assess.traced(params, batch), (params, batch), rest)
    yield update


def _ppo_update(
    config: Any, policy: Any, value: Any, mesh: Mesh, frozen: Any
) -> Program:
    tx = {"policy": make_optimizer(config.optimizer, 1000)}
    names = {"old_logprobs": _FLOAT, "advantages": _FLOAT}
    if config.kl.place == "loss":
        names["ref_logprobs"] = _FLOAT
    models = {"policy": policy}
    if value is not None:
        tx["value"] = make_optimizer(config.value_optimizer, 1000)
        names |= {"old_values": _FLOAT, "returns": _FLOAT}
        models["value"] = value
    update = make_update(
        ppo_loss(policy, value, config),
        tx,
        microbatches=config.microbatches,
        clip_norm=config.clip_norm,
        ema_decay=config.ema_decay,
        switches={"policy": "policy_on"},
    )

    def init() -> Any:
        return init_state(
            {name: _fresh(model)() for name, model in models.items()},
            tx,
            jax.random.key(0),
            ema=("policy",),
            loss_scale=first_loss_scale(policy.config.dtype),
            extra={"kl_coef": jnp.float32(0)},
        )

    numbers = {"policy_on": ((), _FLOAT)}
    if config.kl.place == "loss":
        numbers["kl_coef"] = ((), _FLOAT)
    rows = config.minibatch_size
    batch = {"rollout": _samples(config, mesh, rows, **names)} | _arrays(
        mesh, **numbers
    )
    if config.ptx_coef > 0:
        batch["ptx"] = _texts(mesh, rows * config.ptx_per_episode, config.ptx_window)
    return _updated(update, init, batch, mesh, beside=frozen, runs=config.minibatches)


def _rollout(config: Any, policy: Any, mesh: Mesh, beside: Any) -> Program:
    dtype = config.rollout_dtype or policy.config.dtype
    sampler = LanguageModel(dataclasses.replace(policy.config, dtype=dtype))
    params = _placed(_shapes(_light(sampler, _fresh(sampler)), mesh), mesh)
    params = _laid(params, rollout_shardings(params, mesh))
    copies, rows = config.samples_per_prompt, config.batch_size
    asked = (rows // copies, config.max_prompt)
    names = {
        "prompts": (asked, _INT),
        "valid": (asked, _BOOL),
        "row_ids": ((rows,), _INT),
        "limits": ((rows,), _INT),
    }
    ends = tuple(config.end_tokens) or (policy.config.vocab_size - 1,)
    spec = SamplingSpec(config.max_response, end_tokens=ends)
    on = mesh if mesh.size > 1 else None
    written = rollout_program(sampler, spec, samples_per_prompt=copies, mesh=on)
    key = jax.eval_shape(lambda: jax.random.key(0))
    arguments = (params, *_arrays(mesh, **names).values(), key)
    return Program(
        "rollout",
        lambda: written.trace(*arguments),
        arguments,
        beside,
        turns=config.max_response,
    )


def _trained(
    config: Any,
    loss: Any,
    params: Callable[[], Any],
    batch: Any,
    mesh: Mesh,
    frozen: Any = None,
    prepare: Any = None,
) -> Program:
    """What `training.session.fit` compiles."""
    tx = make_optimizer(config.optimizer, 1000)
    update = make_update(
        loss, tx, microbatches=config.microbatches, clip_norm=config.clip_norm
    )
    if prepare is not None:
        plain = update

        def update(state: Any, batch: Any, frozen: Any = None) -> Any:
            return plain(state, prepare(state.params, batch, frozen), frozen)

    def init() -> Any:
        return init_state(params(), tx, jax.random.key(0))

    return _updated(update, init, batch, mesh, frozen)


def _updated(
    update: Any,
    init: Callable[[], Any],
    batch: Any,
    mesh: Mesh,
    frozen: Any = None,
    **more: Any,
) -> Program:
    driver = parallel.compile_update(update, mesh)
    arguments = (_placed(_shapes(init, mesh), mesh), batch)
    if frozen is not None:
        arguments = (*arguments, frozen)
    return Program("update", lambda: driver.traced(*arguments), arguments, **more)


def _fresh(model: Any) -> Callable[[], Any]:
    return lambda: init_params(model, jax.random.key(0))


def _light(model: Any, params: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: light_params(model, params())


def _shapes(init: Callable[[], Any], mesh: Mesh) -> Any:
    with parallel.in_force(mesh):
        return jax.eval_shape(init)


def _placed(tree: Any, mesh: Mesh) -> Any:
    """Shapes with the places that the rules give them."""
    return _laid(tree, parallel.shardings(tree, mesh))


def _laid(tree: Any, places: Any) -> Any:
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=place
        ),
        tree,
        places,
    )


def _arrays(mesh: Mesh, **arrays: tuple) -> dict[str, jax.ShapeDtypeStruct]:
    """A batch of name -> (shape, dtype), rows cut over the mesh."""
    found = {
        name: jax.ShapeDtypeStruct(
            shape, dtype, sharding=parallel.batch_sharding(mesh, len(shape))
        )
        for name, (shape, dtype) in arrays.items()
    }
    check_batch(found, mesh)
    return found


def _texts(mesh: Mesh, rows: int, length: int) -> dict:
    names = {"tokens": _INT, "valid": _BOOL, "mask": _BOOL}
    return _arrays(mesh, **{name: ((rows, length), t) for name, t in names.items()})


def _samples(config: Any, mesh: Mesh, rows: int, **more: Any) -> dict:
    asked, said = (rows, config.max_prompt), (rows, config.max_response)
    names = {"tokens": _INT, "mask": _BOOL} | more
    return _arrays(
        mesh,
        prompts=(asked, _INT),
        valid=(asked, _BOOL),
        **{name: (said, dtype) for name, dtype in names.items()},
    )


def _rankings(config: Any, mesh: Mesh) -> dict:
    """The widest batch of `data.ranking_stream`."""
    rows, few = config.batch_size, (config.batch_size, config.max_k)
    ranked = {"ranks": (few, _INT), "present": (few, _BOOL), "mask": ((rows,), _BOOL)}
    if getattr(config, "packed", None) is not None:
        length = config.max_prompt + config.max_k * config.max_response
        names = {"tokens": _INT, "valid": _BOOL, "common": _BOOL, "segments": _INT}
        whole = {name: ((rows, length), dtype) for name, dtype in names.items()}
        return _arrays(mesh, **whole, ends=(few, _INT), **ranked)
    asked, said = (rows, config.max_prompt), (*few, config.max_response)
    return _arrays(
        mesh,
        prompts=(asked, _INT),
        prompt_valid=(asked, _BOOL),
        responses=(said, _INT),
        response_valid=(said, _BOOL),
        **ranked,
    )

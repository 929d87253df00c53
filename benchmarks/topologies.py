"""The stages' programs compiled for TPUs that are not here: what fits, what travels.

    pip install 'rlhf_jax[tpu]'    # libtpu; no TPU is needed
    python benchmarks/topologies.py [--only NAME ...] [--slow-compiler]

One JSON line per case of `CASES`: GiB per device (peak of arguments, results and
temporaries), GiB that collectives give per device
and update, the largest of them inside a loop, and seconds to compile. By default the
compiler is told to hurry (`jax_exec_time_optimization_effort`), which moves the figures
by a few percent.
"""

import argparse
import functools
import json
import os
import time
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp

from rlhf_jax import parallel
from rlhf_jax.experience import make_assess
from rlhf_jax.models import (
    LanguageModel,
    ScalarModel,
    cast_matrices,
    gpt3_config,
    init_params,
)
from rlhf_jax.parallel.compiled_text import collectives
from rlhf_jax.sampling import SamplingSpec
from rlhf_jax.sampling.generation import rollout_program
from rlhf_jax.sampling.layout import rollout_shardings
from rlhf_jax.stages import likelihood, ppo
from rlhf_jax.stages.reward.objective import make_loss as reward_loss
from rlhf_jax.training import OptimizerConfig, init_state, make_optimizer, make_update

GIB = 2**30
INT, FLOAT, BOOL = jnp.int32, jnp.float32, jnp.bool_
# name -> (topology, slices, mesh, size, program, rows, length)
CASES = {
    "1.3B pretrain": ("v5e:4x4", 1, (1, 16, 1), "1.3B", "pretrain", 16, 1024),
    "1.3B reward": ("v5e:4x4", 1, (1, 16, 1), "1.3B", "reward", 16, 1024),
    "1.3B ppo": ("v5e:4x4", 1, (1, 16, 1), "1.3B", "ppo", 16, 1024),
    "1.3B assess": ("v5e:4x4", 1, (1, 16, 1), "1.3B", "assess", 16, 1024),
    "1.3B rollout": ("v5e:4x4", 1, (1, 16, 1), "1.3B", "rollout", 64, 1024),
    "6.7B pretrain": ("v5p:2x2x2", 1, (1, 8, 1), "6.7B", "pretrain", 8, 2048),
    "6.7B ppo": ("v5p:2x2x2", 1, (1, 8, 1), "6.7B", "ppo", 8, 2048),
    "6.7B on 256": ("v5e:16x16", 1, (1, 256, 1), "6.7B", "pretrain", 256, 2048),
}


def shapes(mesh: Any, **arrays: tuple) -> dict[str, jax.ShapeDtypeStruct]:
    """A batch of name -> (shape, dtype), rows cut over the mesh."""
    return {
        name: jax.ShapeDtypeStruct(
            shape, dtype, sharding=parallel.batch_sharding(mesh, len(shape))
        )
        for name, (shape, dtype) in arrays.items()
    }


def laid(tree: Any, mesh: Any) -> Any:
    """Shapes with the places that the rules give them."""
    return placed_at(tree, parallel.shardings(tree, mesh))


def placed_at(tree: Any, places: Any) -> Any:
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=place
        ),
        tree,
        places,
    )


def texts(mesh: Any, rows: int, length: int) -> dict:
    names = {"tokens": INT, "valid": BOOL, "mask": BOOL}
    return shapes(mesh, **{name: ((rows, length), t) for name, t in names.items()})


def samples(mesh: Any, rows: int, length: int, **more: Any) -> dict:
    half = (rows, length // 2)
    names = {"prompts": INT, "valid": BOOL, "tokens": INT, "mask": BOOL} | more
    return shapes(mesh, **{name: (half, t) for name, t in names.items()})


def program(kind: str, size: str, mesh: Any, rows: int, length: int) -> Any:
    """The compiled program of a case."""
    config = gpt3_config(size, dtype="bfloat16", attention="splash")
    policy, scalar = LanguageModel(config), ScalarModel(config)
    tx = make_optimizer(OptimizerConfig(), 1000)

    def fresh(model: Any) -> Any:
        return init_params(model, jax.random.key(0))

    def update(loss: Any, make_params: Any, batch: dict, txs: Any = tx, **options: Any):
        ema = options.pop("ema", False)
        with parallel.in_force(mesh):
            state = jax.eval_shape(
                lambda: init_state(make_params(), txs, jax.random.key(0), ema=ema)
            )
        driver = parallel.compile_update(make_update(loss, txs, **options), mesh)
        return driver.compiled(laid(state, mesh), batch)

    if kind == "pretrain":
        loss = likelihood.make_loss(policy)
        return update(loss, lambda: fresh(policy), texts(mesh, rows, length))
    if kind == "reward":
        half, few = length // 2, (rows, 4)
        batch = shapes(
            mesh,
            prompts=((rows, half), INT),
            prompt_valid=((rows, half), BOOL),
            responses=((*few, half), INT),
            response_valid=((*few, half), BOOL),
            ranks=(few, INT),
            present=(few, BOOL),
            mask=((rows,), BOOL),
        )
        return update(reward_loss(scalar), lambda: fresh(scalar), batch)
    if kind == "ppo":
        wanted = ("old_logprobs", "old_values", "advantages", "returns")
        more = dict.fromkeys(wanted, FLOAT)
        whole = jax.sharding.NamedSharding(mesh, jax.P())
        batch = {
            "rollout": samples(mesh, rows, length, **more),
            "policy_on": jax.ShapeDtypeStruct((), FLOAT, sharding=whole),
        }
        settings = ppo.Config(ptx_coef=0.0)
        return update(
            ppo.make_loss(policy, scalar, settings),
            lambda: {"policy": fresh(policy), "value": fresh(scalar)},
            batch,
            {"policy": tx, "value": tx},
            ema=("policy",),
            ema_decay=settings.ema_decay,
            switches={"policy": "policy_on"},
        )
    light = functools.partial(cast_matrices, dtype="bfloat16")
    if kind == "assess":
        with parallel.in_force(mesh):
            params = jax.eval_shape(
                lambda: {
                    "policy": fresh(policy),
                    "reference": light(fresh(policy)),
                    "value": fresh(scalar),
                    "reward": light(fresh(scalar)),
                }
            )
        batch = samples(mesh, rows, length) | shapes(mesh, finished=((rows,), BOOL))
        assess = make_assess(policy, scalar, scalar, temperature=1.0)
        return parallel.compile_function(assess, mesh).compiled(
            laid(params, mesh), batch
        )
    return rollout(policy, mesh, rows, length)


def rollout(policy: Any, mesh: Any, rows: int, length: int) -> Any:
    """Half the length is prompt, half is written."""
    with parallel.in_force(mesh):
        params = jax.eval_shape(
            lambda: cast_matrices(init_params(policy, jax.random.key(0)), "bfloat16")
        )
    params = laid(params, mesh)
    params = placed_at(params, rollout_shardings(params, mesh))
    half = length // 2
    names = {
        "prompts": ((rows, half), INT),
        "valid": ((rows, half), BOOL),
        "row_ids": ((rows,), INT),
        "limits": ((rows,), INT),
    }
    spec = SamplingSpec(half, end_tokens=(policy.config.vocab_size - 1,))
    key = jax.eval_shape(lambda: jax.random.key(0))
    written = rollout_program(policy, spec, mesh=mesh)
    return written.lower(params, *shapes(mesh, **names).values(), key).compile()


def measured(name: str) -> dict:
    """The figures of a case; what the compiler says where it does not fit."""
    topology, slices, sizes, size, kind, rows, length = CASES[name]
    devices = parallel.topology_devices(topology, slices)
    mesh = parallel.make_mesh(*sizes, devices=devices)
    line = {"case": name, "topology": topology, "mesh": sizes, "rows": rows}
    line["length"], start = length, time.perf_counter()
    try:
        compiled = program(kind, size, mesh, rows, length)
    except jax.errors.JaxRuntimeError as error:
        return line | {"fits": False, "compiler": str(error)[:300]}
    memory, found = compiled.memory_analysis(), collectives(compiled.as_text())
    looped = [c.bytes for c in found if c.depth]
    return line | {
        "fits": True,
        "peak_gib": round(memory.peak_memory_in_bytes / GIB, 2),
        "collectives_gib": round(sum(c.bytes * c.times for c in found) / GIB, 2),
        "largest_in_loop_mib": round(max(looped, default=0) / 2**20, 1),
        "compile_seconds": round(time.perf_counter() - start, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--slow-compiler", action="store_true", help="do not hurry")
    args = parser.parse_args()
    if not args.slow_compiler:
        jax.config.update("jax_exec_time_optimization_effort", -1.0)
    for name in args.only:
        print(json.dumps(measured(name)), flush=True)


if __name__ == "__main__":
    main()

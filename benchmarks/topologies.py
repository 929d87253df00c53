"""The stages' programs compiled for TPUs that are not here: what fits, what travels.

    pip install 'rlhf_jax[tpu]'    # libtpu; no TPU is needed
    python benchmarks/topologies.py [--only NAME ...] [--slow-compiler]
    python benchmarks/topologies.py --write docs/scale.md [--lines FILE]

One JSON line per program of the cases of `CASES`: GiB per device (peak of arguments,
results and temporaries; and what lies beside them, such as the state while a rollout is
written), TFLOP, GiB that collectives give per device by axis of the mesh, the largest
of them inside a loop, and seconds to compile. By default the compiler is told to hurry
(`jax_exec_time_optimization_effort`), which moves the figures by a few percent.

--write puts the lines, of this run or of a file, into the table of a document.
"""

import argparse
import json
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

from rlhf_jax import parallel
from rlhf_jax.models import gpt3_config
from rlhf_jax.pipeline.costs import compiled_cost
from rlhf_jax.pipeline.programs import programs
from rlhf_jax.stages import ppo, reward, sft

GIB = 2**30
BEGIN, END = "<!-- topologies: begin -->", "<!-- topologies: end -->"


class Case(NamedTuple):
    """A stage on a slice of TPUs.

    Attributes:
      topology: of `topology_devices`.
      mesh: (data, fsdp, tensor).
      kind: of the stage.
      config: its settings.
      size: of the model, of `gpt3_config`.
      reward: size of the reward model and the value function; None: that of the model.
      changes: of the model's config.
    """

    topology: str
    mesh: tuple[int, int, int]
    kind: str
    config: Any
    size: str
    reward: str | None = None
    changes: dict[str, Any] = {}


def _ppo(rows: int, minibatch: int, length: int, **more: Any) -> ppo.Config:
    half = length // 2
    return ppo.Config(
        batch_size=rows,
        minibatch_size=minibatch,
        max_prompt=half,
        max_response=half,
        ptx_window=length,
        **{"ptx_per_episode": 1} | more,
    )


def _sft(rows: int, length: int) -> sft.Config:
    half = length // 2
    return sft.Config(batch_size=rows, max_prompt=half, max_response=half)


CASES = {
    "1.3B sft": Case("v5e:4x4", (1, 16, 1), "sft", _sft(16, 1024), "1.3B"),
    "1.3B reward": Case(
        "v5e:4x4",
        (1, 16, 1),
        "reward",
        reward.Config(batch_size=16, max_k=4, max_prompt=512, max_response=512),
        "1.3B",
    ),
    "1.3B ppo": Case("v5e:4x4", (1, 16, 1), "ppo", _ppo(64, 16, 1024), "1.3B"),
    "6.7B sft": Case("v5p:2x2x2", (1, 8, 1), "sft", _sft(8, 2048), "6.7B"),
    "6.7B ppo": Case("v5p:2x2x2", (1, 8, 1), "ppo", _ppo(64, 8, 2048), "6.7B"),
    "6.7B sft, 256": Case("v5e:16x16", (1, 256, 1), "sft", _sft(256, 2048), "6.7B"),
    "6.7B ppo, 256": Case("v5e:16x16", (1, 64, 4), "ppo", _ppo(512, 64, 2048), "6.7B"),
    # as in the paper: 8 pretraining examples per episode, reward and value of 6B
    "175B ppo": Case(
        "v5p:4x8x8",
        (1, 32, 8),
        "ppo",
        _ppo(512, 64, 2048, ptx_per_episode=8, microbatches=2),
        "175B",
        "6.7B",
        {"remat": "full"},
    ),
}


def measured(name: str, only: str | None = None) -> Iterator[dict]:
    """The figures of a case's programs; what the compiler says where one is refused.

    Args:
      name: of the case.
      only: one of its programs; None: all.
    """
    case = CASES[name]
    devices = parallel.topology_devices(case.topology)
    mesh = parallel.make_mesh(*case.mesh, devices=devices)
    options = {"dtype": "bfloat16", "attention": "splash"} | case.changes
    shapes = {"model": gpt3_config(case.size, **options)}
    shapes["reward"] = gpt3_config(case.reward or case.size, **options)
    for program in programs(case.kind, case.config, shapes, mesh):
        if only not in (None, program.name):
            continue
        start = time.perf_counter()
        cost = compiled_cost(program, mesh)
        yield {
            "case": name,
            "program": program.name,
            "topology": case.topology,
            "mesh": case.mesh,
            "refused": cost.refused,
            "peak_gib": round(cost.memory / GIB, 2),
            "beside_gib": round(cost.beside / GIB, 2),
            "tflop": round(cost.flops / 1e12, 1),
            "sent_gib": {axis: round(n / GIB, 2) for axis, n in cost.sent.items()},
            "largest_in_loop_mib": round(cost.largest / 2**20, 1),
            "compile_seconds": round(time.perf_counter() - start, 1),
        }


def table(lines: list[dict]) -> str:
    """The lines as a table in Markdown."""
    head = (
        "| case | program | topology | mesh | GiB | beside | TFLOP | sent, GiB | "
        "largest in a loop, MiB | compiled in, s |"
    )
    rows = [head, "|---|---|---|---|---|---|---|---|---|---|"]
    for line in lines:
        gib = line["sent_gib"]
        sent = (
            "not counted"
            if gib is None
            else ", ".join(f"{axis} {n:.1f}" for axis, n in gib.items() if n >= 0.05)
        )
        cells = [
            line["case"],
            line["program"],
            line["topology"],
            ",".join(map(str, line["mesh"])),
            line["refused"] or f"{line['peak_gib']:.1f}",
            f"{line['beside_gib']:.1f}",
            f"{line['tflop']:.0f}",
            sent or "0",
            "not counted" if gib is None else f"{line['largest_in_loop_mib']:.0f}",
            f"{line['compile_seconds']:.0f}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def write(path: pathlib.Path, lines: list[dict]) -> None:
    """Puts the table between the marks of a document."""
    text = path.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n{table(lines)}\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--program", help="one program of each: update, assess, ...")
    parser.add_argument("--slow-compiler", action="store_true", help="do not hurry")
    parser.add_argument("--write", type=pathlib.Path, metavar="FILE", help="a document")
    parser.add_argument("--lines", type=pathlib.Path, help="of an earlier run")
    args = parser.parse_args()
    if args.lines:
        lines = [json.loads(line) for line in args.lines.read_text().splitlines()]
    else:
        if not args.slow_compiler:
            jax.config.update("jax_exec_time_optimization_effort", -1.0)
        lines = []
        for name in args.only:
            for line in measured(name, args.program):
                lines.append(line)
                print(json.dumps(line), flush=True)
    if args.write:
        write(args.write, lines)


if __name__ == "__main__":
    main()

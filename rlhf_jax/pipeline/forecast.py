"""An experiment on machines that are not here: does it fit, how long, at what price.

`rlhf-jax run x.py --dry-run --topology v5e:4x4 --price 1.2` prints it. Every stage that
trains is compiled as it would run there; what does not fit is told, with what would
make it fit.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh

from rlhf_jax.errors import InputError
from rlhf_jax.layouts import BATCH_AXES
from rlhf_jax.models import EncoderConfig, TrunkConfig
from rlhf_jax.parallel import AXES, make_mesh, parse_mesh, topology_devices
from rlhf_jax.parallel.hardware import GIB, Machines, parse_machines
from rlhf_jax.pipeline.costs import Cost, compiled_cost, device_bytes, estimated_cost
from rlhf_jax.pipeline.experiment import Experiment, kind_of
from rlhf_jax.pipeline.plan import kept_bytes, plans, shapes_of
from rlhf_jax.pipeline.programs import Program, programs

__all__ = ["Forecast", "forecast", "forecasts", "mesh_for"]


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What a stage costs.

    Attributes:
      name: of the stage.
      costs: of its programs; empty where none is compiled for it.
      seconds: of an update, of PPO of an iteration; None: it does not fit.
      steps: of the stage; None where it depends on data.
      note: why it cannot run, and what would make it.
    """

    name: str
    costs: Sequence[Cost] = ()
    seconds: float | None = None
    steps: int | None = None
    note: str = ""


def mesh_for(machines: Machines, setting: str) -> Mesh | AbstractMesh:
    """The mesh that a run's setting describes, on machines that are not here.

    TPUs are libtpu's descriptions of them. GPUs have none: their mesh has sizes alone,
    to be counted with, not compiled for.

    Raises:
      InputError: the setting does not fit so many chips; or libtpu is not installed.
    """
    if machines.tpu is not None:
        devices = topology_devices(machines.tpu, machines.islands)
        return make_mesh(**parse_mesh(setting, devices), devices=devices)
    if setting == "auto":
        sizes = {"data": machines.islands, "fsdp": machines.size, "tensor": 1}
    else:
        sizes = parse_mesh(setting)
    known = math.prod(n for n in sizes.values() if n != -1)
    shape = [machines.count // known if n == -1 else n for n in sizes.values()]
    if math.prod(shape) != machines.count:
        raise InputError(
            f"settings.mesh {setting!r} does not make {machines.count} chips, as "
            f"{machines.text} has"
        )
    return AbstractMesh(tuple(shape), AXES, (AxisType.Auto,) * len(AXES))


def forecasts(
    experiment: Experiment, machines: Machines, only: Sequence[str] | None = None
) -> Iterator[Forecast]:
    """What each stage costs, in order.

    Args:
      experiment: what.
      machines: where.
      only: names of stages; None: all.
    """
    shapes = shapes_of(experiment)
    steps = {plan.name: plan.steps for plan in plans(experiment)}
    mesh = mesh_for(machines, experiment.settings.mesh)
    for name, config in experiment.stages.items():
        if only is None or name in only:
            given = _shapes(name, config, shapes)
            yield _of_stage(name, config, given, steps[name], machines, mesh)


def _shapes(name: str, config: Any, shapes: dict[str, Any]) -> dict[str, Any]:
    """What a stage's programs need to know of its models."""
    shape = shapes.get(name)
    if shape is None or isinstance(shape, EncoderConfig):
        return {}
    found = {"model": shape}
    if kind_of(config) == "ppo":
        source = str(config.reward).removeprefix("@").split("/")[0]
        scores = shapes.get(source, shape)
        found["reward"] = shape if isinstance(scores, EncoderConfig) else scores
    return found


def _of_stage(
    name: str,
    config: Any,
    shapes: dict[str, TrunkConfig],
    steps: int | None,
    machines: Machines,
    mesh: Mesh,
) -> Forecast:
    kind = kind_of(config)
    if not shapes or not hasattr(config, "microbatches"):
        return Forecast(name)
    parts = _parts(config, mesh)
    note = ""
    if parts not in (None, config.microbatches):
        config = dataclasses.replace(config, microbatches=parts)
        note = f"as it stands its parts cannot be cut; taken with microbatches={parts}"
    try:
        made = list(programs(kind, config, shapes, mesh))
        costs = [_cost(each, config, shapes, machines, mesh) for each in made]
    except InputError as error:  # rows that cannot be cut
        note = f"cannot run there: {error}; {_other_mesh(config, machines)}"
        return Forecast(name, steps=steps, note=note)
    if not all(cost.fits(machines.chip) for cost in costs):
        note += "; " if note else ""
        note += _mended(kind, config, shapes, made, machines, mesh)
        return Forecast(name, costs, None, steps, note)
    seconds = sum(
        program.runs * cost.seconds(machines.chip)
        for program, cost in zip(made, costs, strict=True)
    )
    return Forecast(name, costs, seconds, steps, note)


def _rows(config: Any) -> int:
    """Rows of a stage's update."""
    return getattr(config, "minibatch_size", config.batch_size)


def _parts(config: Any, mesh: Any) -> int | None:
    """Most micro-batches, of no more than the config's, that can be cut; None: none."""
    ways = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    rows = _rows(config)
    for parts in range(config.microbatches, 0, -1):
        if rows % parts == 0 and (rows // parts) % ways == 0:
            return parts
    return None


def _cost(
    program: Program, config: Any, shapes: dict, machines: Machines, mesh: Mesh
) -> Cost:
    if machines.tpu is not None:
        return compiled_cost(program, mesh)
    kept = kept_bytes(config, shapes["model"], rollout=program.name == "rollout")
    return estimated_cost(program, mesh, shapes["model"], kept)


def _other_mesh(config: Any, machines: Machines) -> str:
    """A mesh whose rows fit the stage's smallest batch."""
    rows = _rows(config)
    ways = math.gcd(rows, machines.count)
    return (
        f"settings.mesh='1,{ways},{machines.count // ways}' with microbatches=1 has "
        f"places for its {rows} rows"
    )


def _mended(
    kind: str,
    config: Any,
    shapes: dict[str, TrunkConfig],
    made: Sequence[Program],
    machines: Machines,
    mesh: Mesh,
) -> str:
    """What would make a stage fit, tried where a compiler can be asked."""
    changes: dict[str, Any] = {"remat": "full"}
    if machines.tpu is not None:
        changes["attention"] = "splash"
    tried = {n: dataclasses.replace(s, **changes) for n, s in shapes.items()}
    if tried != shapes:
        again = list(programs(kind, config, tried, mesh))
        costs = [_cost(each, config, tried, machines, mesh) for each in again]
        if all(cost.fits(machines.chip) for cost in costs):
            told = ", ".join(f"{key}={value!r}" for key, value in changes.items())
            peak = max(cost.memory + cost.beside for cost in costs) / GIB
            return f"does not fit; with {told} of the model it does: {peak:.1f} GiB"
    state = max(device_bytes((p.arguments, p.beside)) for p in made) * machines.count
    least = math.ceil(state / (0.6 * machines.chip.memory))
    return (
        f"does not fit: what it holds is {state / GIB:,.0f} GiB in all; take about "
        f"{max(least, 2 * machines.count)} chips, or more parts (microbatches), or a "
        "tensor axis in settings.mesh"
    )


def forecast(
    experiment: Experiment,
    topology: str,
    price: float | None = None,
    only: Sequence[str] | None = None,
) -> str:
    """The forecast as a table for people.

    Args:
      experiment: what.
      topology: see `parallel.hardware.parse_machines`.
      price: of a chip for an hour, in any currency; None: not asked.
      only: names of stages; None: all.

    Raises:
      InputError: no such topology, or libtpu is not installed.
    """
    machines = parse_machines(topology)
    header = ["stage", "program", "GiB/chip", "TFLOP/chip", "sent GiB/chip", "s", "of"]
    lines, notes, hours = [header], [], 0.0
    for found in forecasts(experiment, machines, only):
        lines += [_line(found.name, cost, machines) for cost in found.costs]
        if found.note:
            notes.append(f"{found.name}: {found.note}")
        if found.seconds is not None:
            notes.append(_time(found, machines, price))
            hours += (found.steps or 0) * found.seconds / 3600
    text = [_table(lines), "", *notes]
    if hours:
        whole = f"{hours:,.1f} h in all (stages with a known number of steps)"
        text.append(whole + _priced(hours, machines, price))
    return "\n".join([*text, "", _assumptions(machines)])


def _line(stage: str, cost: Cost, machines: Machines) -> list[str]:
    sent = " ".join(f"{axis} {size / GIB:.2f}" for axis, size in cost.sent.items())
    memory = "?" if math.isinf(cost.memory) else f"{cost.memory / GIB:.2f}"
    if cost.beside:
        memory += f"+{cost.beside / GIB:.2f}"
    fits = cost.fits(machines.chip)
    seconds = f"{cost.seconds(machines.chip):.3g}" if fits else cost.refused or "full"
    limit = f"{machines.chip.memory / GIB:.1f}"
    return [stage, cost.name, memory, f"{cost.flops / 1e12:.3g}", sent, seconds, limit]


def _time(found: Forecast, machines: Machines, price: float | None) -> str:
    if found.steps is None:
        hours = 1000 * found.seconds / 3600
        told = f"{found.name}: {hours:,.2f} h for 1,000 updates"
    else:
        hours = found.steps * found.seconds / 3600
        told = f"{found.name}: {found.steps:,} steps of {found.seconds:.3g} s, "
        told += f"{hours:,.1f} h"
    return told + _priced(hours, machines, price)


def _priced(hours: float, machines: Machines, price: float | None) -> str:
    if price is None:
        return ""
    return f", {hours * machines.count * price:,.0f} at {price:g} a chip-hour"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = np.array([[len(cell) for cell in row] for row in rows]).max(axis=0)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _assumptions(machines: Machines) -> str:
    chip = machines.chip
    how = (
        "Compiled by libtpu for that topology"
        if machines.tpu is not None
        else "Estimated, not compiled: state is exact, what lies between is a guess"
    )
    return (
        f"{machines.text}: {machines.count} x {chip.name}, {chip.flops / 1e12:.0f} "
        f"TFLOP/s in bfloat16, {chip.memory / GIB:.1f} GiB at "
        f"{chip.bandwidth / 1e9:,.0f} GB/s, {chip.network / 1e9:.0f} GB/s to its "
        f"neighbours. {how}. GiB/chip is the peak of the program + what lies beside "
        "it, of the chip's (of); s is a bound from below, the slowest of products, "
        "memory and network at full speed; real runs take 1.5 to 3 times as long. "
        "Rollouts are counted to their last token, causal attention as if it were "
        "whole; evaluations and saving are left out."
    )

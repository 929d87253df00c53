"""What a program costs on machines that are not here: memory, products, network, time.

For TPUs the compiler says it (libtpu, no TPU is needed); for GPUs it is estimated.
"""

import dataclasses
import functools
import math
import re
from collections import Counter
from typing import Any

import jax
from jax.sharding import Mesh

from rlhf_jax.layouts import BATCH_AXES, TENSOR_AXIS
from rlhf_jax.parallel.compiled_text import axes_of, collectives
from rlhf_jax.parallel.flops import traced_flops
from rlhf_jax.parallel.hardware import Chip
from rlhf_jax.pipeline.programs import Program

__all__ = ["Cost", "compiled_cost", "device_bytes", "estimated_cost"]

# bytes of logits that a device holds of a chunk, with their gradient
_LOGITS = 2**30


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one run of a program costs a device.

    Attributes:
      name: of the program.
      memory: bytes at most: arguments, results and what is in between.
      beside: bytes of what lies there meanwhile.
      flops: of products.
      sent: axes of the mesh -> bytes that collectives give.
      largest: bytes of the largest collective that is inside a loop.
      moved: bytes between memory and chip, roughly: arguments and results once,
        what is in between twice; of a rollout its arguments and half of the cache for
        each token.
      refused: why the compiler did not take it; None: it did.
    """

    name: str
    memory: float
    beside: float
    flops: float
    sent: dict[str, float]
    largest: float
    moved: float
    refused: str | None = None

    def fits(self, chip: Chip) -> bool:
        """Whether the chip's memory is enough."""
        return self.refused is None and self.memory + self.beside <= chip.memory

    def seconds(self, chip: Chip) -> float:
        """The slowest of products, memory and network: a bound from below."""
        return max(
            self.flops / chip.flops,
            self.moved / chip.bandwidth,
            sum(self.sent.values()) / chip.network,
        )


def device_bytes(tree: Any) -> int:
    """Bytes of a device, of shapes with places."""

    def one(leaf: Any) -> int:
        shape, sharding = leaf.shape, getattr(leaf, "sharding", None)
        if sharding is not None:
            shape = sharding.shard_shape(shape)
        dtype = leaf.dtype
        if jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
            return 8
        return math.prod(shape) * dtype.itemsize

    return sum(map(one, jax.tree.leaves(tree)))


def compiled_cost(program: Program, mesh: Mesh) -> Cost:
    """The cost of a program as its compiler sees it.

    A program that the devices' memory cannot hold has what it would need, where the
    compiler tells it, and why it was refused.

    Args:
      program: for the devices of `mesh`.
      mesh: of a TPU topology.
    """
    traced = program.traced()
    beside = device_bytes(program.beside)
    flops = traced_flops(traced.jaxpr, turns=program.turns) / mesh.size
    found = functools.partial(Cost, program.name, beside=beside, flops=flops)
    try:
        with jax.set_mesh(mesh):
            compiled = traced.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        needed, told = _refusal(str(error))
        return found(needed, sent={}, largest=0, moved=0, refused=told)
    memory = compiled.memory_analysis()
    sent, largest = Counter(), 0
    for each in collectives(compiled.as_text()):
        axes = axes_of(each, dict(mesh.shape))
        sent["+".join(axes) or "?"] += each.bytes * each.times
        largest = max(largest, each.bytes if each.depth else 0)
    whole = memory.argument_size_in_bytes
    between = memory.temp_size_in_bytes
    moved = whole + memory.output_size_in_bytes + 2 * between
    if program.turns > 1:
        moved = program.turns * (whole + between / 2)
    return found(
        memory.peak_memory_in_bytes, sent=dict(sent), largest=largest, moved=moved
    )


def _refusal(text: str) -> tuple[float, str]:
    """(bytes that were asked for, or infinity; the compiler's words in short)."""
    asked = re.search(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) (\w+)", text)
    if asked is None:
        return math.inf, text.strip().splitlines()[0][:160]
    unit = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    return float(asked[1]) * unit[asked[2]], "out of memory"


def estimated_cost(program: Program, mesh: Mesh, shape: Any, kept: float) -> Cost:
    """The cost of a program where no compiler can be asked.

    Memory is exact in arguments and state, and a guess in what is in between: the
    gradients, what the backward pass keeps, a chunk of logits, and two layers whole.
    The network carries each layer's weights forwards and backwards, and gradients in
    float32 back.

    Args:
      program: with places on `mesh`.
      mesh: of as many devices of any kind.
      shape: config of the largest model, whose layers are gathered.
      kept: bytes that the backward pass keeps, over all devices.
    """
    state = program.arguments[0]
    params = getattr(state, "params", state)
    parts = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    ways, tensor = mesh.shape["fsdp"], mesh.shape[TENSOR_AXIS]
    numbers = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) / tensor
    wide = {"float32": 4}.get(shape.dtype, 2)
    whole, beside = device_bytes(program.arguments), device_bytes(program.beside)
    layers = 2 * wide * numbers / shape.num_layers if ways > 1 else 0
    between, gathers, back = layers + _LOGITS, 1, 0
    if program.name == "update":
        trained = device_bytes(params)
        between += trained + kept / parts / tensor
        gathers, back = 2, 4 * numbers
    if program.turns > 1:  # weights are laid out before; a cache is in between
        between, gathers = kept / parts / tensor, 0
    sent = {}
    if ways > 1 and gathers:
        sent["fsdp"] = gathers * wide * numbers + back
    flops = traced_flops(program.traced().jaxpr, turns=program.turns) / mesh.size
    moved = whole * (2 if back else 1) + 2 * between
    if program.turns > 1:
        moved = program.turns * (whole + between / 2)
    return Cost(program.name, whole + between, beside, flops, sent, layers / 2, moved)

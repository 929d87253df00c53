"""Machines that are not here: how many chips of what, and how fast they are.

The figures are the makers' own: peak of bfloat16 products, memory and its bandwidth,
and what a chip sends to the others of its slice or node (cloud.google.com/tpu/docs;
NVIDIA's data sheets, dense, half of the bidirectional NVLink figure).
"""

import dataclasses
import re

from rlhf_jax.errors import InputError

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """What one chip can do.

    Attributes:
      name: as people say it.
      flops: products in bfloat16 [FLOP/s].
      memory: that a program may use [bytes].
      bandwidth: of the memory [bytes/s].
      network: to the other chips of the slice or node [bytes/s].
    """

    name: str
    flops: float
    memory: float
    bandwidth: float
    network: float


_TPUS = {
    "v4": Chip("TPU v4", 275e12, 31.75 * GIB, 1200e9, 300e9),
    "v5e": Chip("TPU v5e", 197e12, 15.75 * GIB, 819e9, 200e9),
    "v5p": Chip("TPU v5p", 459e12, 95.74 * GIB, 2765e9, 600e9),
    "v6e": Chip("TPU v6e", 918e12, 31.25 * GIB, 1640e9, 448e9),
}
_GPUS = {
    "A100-40GB": Chip("A100 40 GB", 312e12, 40e9 * 0.95, 1555e9, 300e9),
    "A100-80GB": Chip("A100 80 GB", 312e12, 80e9 * 0.95, 2039e9, 300e9),
    "H100-80GB": Chip("H100 80 GB", 989e12, 80e9 * 0.95, 3350e9, 450e9),
    "H200-141GB": Chip("H200 141 GB", 989e12, 141e9 * 0.95, 4800e9, 450e9),
    "B200-180GB": Chip("B200 180 GB", 2250e12, 180e9 * 0.95, 8000e9, 900e9),
}


@dataclasses.dataclass(frozen=True)
class Machines:
    """So many chips, in islands of a fast network.

    Attributes:
      text: as it was asked for.
      chip: of which kind.
      islands: slices or nodes.
      size: chips of an island.
      tpu: name of a slice's topology, as "v5e:4x4"; None: no TPU, nothing to compile
        for here.
    """

    text: str
    chip: Chip
    islands: int
    size: int
    tpu: str | None

    @property
    def count(self) -> int:
        """Chips of all islands."""
        return self.islands * self.size


def parse_machines(text: str) -> Machines:
    """Reads what `--topology` names.

    Args:
      text: "v5e:4x4" is a slice of TPUs by its shape in chips, "2*v5e:4x4" two of
        them; "gpu:8xH100-80GB" a node of GPUs, "gpu:4x8xH100-80GB" four of them.

    Raises:
      InputError: no such kind, or no shape.

    >>> parse_machines("2*v5e:4x4").count, parse_machines("gpu:4x8xH100-80GB").count
    (32, 32)
    """
    slices, _, name = text.rpartition("*")
    kind, _, rest = name.partition(":")
    if kind in _TPUS and re.fullmatch(r"\d+(x\d+){1,2}", rest):
        if not slices or slices.isdigit():
            size = 1
            for n in rest.split("x"):
                size *= int(n)
            return Machines(text, _TPUS[kind], int(slices or 1), size, name)
    found = re.fullmatch(r"(?:(\d+)x)?(\d+)x([^x]+)", rest)
    if kind == "gpu" and not slices and found and found[3] in _GPUS:
        nodes, size = int(found[1] or 1), int(found[2])
        return Machines(text, _GPUS[found[3]], nodes, size, None)
    raise InputError(
        f"--topology {text!r}: expected TPUs as 'v5e:4x4' or '2*v5e:4x4' (of "
        f"{', '.join(_TPUS)}) or GPUs as 'gpu:8x{next(reversed(_GPUS))}' or "
        f"'gpu:4x8x...' (of {', '.join(_GPUS)})"
    )

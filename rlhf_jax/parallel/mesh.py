"""The device mesh: three named axes, any of which may have size 1.

data    rows of the batch; parameters are copied
fsdp    rows of the batch; parameters and moments are cut, and gathered for use
tensor  columns of the matrices; activations are cut inside a layer
"""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from rlhf_jax.errors import InputError
from rlhf_jax.layouts import BATCH_AXES, TENSOR_AXIS

AXES = (*BATCH_AXES, TENSOR_AXIS)


def make_mesh(
    data: int = -1,
    fsdp: int = 1,
    tensor: int = 1,
    *,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """The mesh of `data` x `fsdp` x `tensor` devices; one axis may be -1: the rest.

    The axes are `AxisType.Auto`: programs are written for whole arrays and the
    compiler inserts the communication. (`jax.make_mesh` alone gives explicit axes,
    under which a plain embedding lookup on sharded tokens is an error.)

    Args:
      data: devices along the "data" axis, or -1.
      fsdp: devices along the "fsdp" axis, or -1.
      tensor: devices along the "tensor" axis, or -1.
      devices: the devices to use; all of them, of every process, when None.

    Returns:
      A `jax.sharding.Mesh` with the axis names of `AXES`.

    Raises:
      InputError: the sizes do not multiply to the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    shape = _filled([data, fsdp, tensor], len(devices))
    kinds = (AxisType.Auto,) * len(AXES)
    if set(devices) == set(jax.devices()):  # jax orders them by the network
        return jax.make_mesh(shape, AXES, axis_types=kinds)
    return Mesh(np.array(devices).reshape(shape), AXES, axis_types=kinds)


def parse_mesh(text: str) -> dict[str, int]:
    """Reads the mesh setting of a config into arguments of `make_mesh`.

    `"auto"` cuts parameters over all devices of one host and copies them across
    hosts: the gathers stay on the fast network. `"2,4,1"` and `"data=2,fsdp=4"` are
    sizes; -1 stands for the rest, a missing name for 1.

    >>> parse_mesh("data=2,fsdp=-1")
    {'data': 2, 'fsdp': -1, 'tensor': 1}
    >>> parse_mesh("1,1,8")
    {'data': 1, 'fsdp': 1, 'tensor': 8}
    """
    text = text.replace(" ", "")
    if text == "auto":
        return {"data": jax.process_count(), "fsdp": -1, "tensor": 1}
    expected = "'auto', three sizes as '2,4,1', or names as 'data=2,fsdp=-1'"
    sizes = dict.fromkeys(AXES, 1)
    parts = text.split(",")
    try:
        if "=" in text:
            pairs = [part.split("=") for part in parts]
            given = {name: int(size) for name, size in pairs}
        elif len(parts) == len(AXES):
            given = dict(zip(AXES, map(int, parts), strict=True))
        else:
            raise ValueError
    except ValueError:
        raise InputError(f"mesh {text!r}: expected {expected}") from None
    if unknown := set(given) - set(AXES):
        raise InputError(f"mesh {text!r}: no axis {sorted(unknown)}; there are {AXES}")
    return sizes | given


def _filled(shape: list[int], count: int) -> tuple[int, ...]:
    named = ", ".join(f"{a}={n}" for a, n in zip(AXES, shape, strict=True))
    if shape.count(-1) > 1 or any(n == 0 or n < -1 for n in shape):
        raise InputError(f"mesh ({named}): sizes are positive, at most one is -1")
    known = math.prod(n for n in shape if n != -1)
    shape = [count // known if n == -1 else n for n in shape]
    if math.prod(shape) != count:
        raise InputError(
            f"mesh ({named}) needs a product of {count}, the number of devices"
        )
    return tuple(shape)

"""The device mesh: three named axes, any of which may have size 1.

data    rows of the batch; parameters are copied
fsdp    rows of the batch; parameters and moments are cut, and gathered for use
tensor  columns of the matrices; activations are cut inside a layer

What is said often should travel fast: "tensor" in every layer, "fsdp" once per layer,
"data" once per update. So islands of devices with a fast network among themselves (a
slice of TPUs, a node of GPUs) are spread over "data" first.
"""

import contextlib
import math
from collections import Counter
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh

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
      InputError: the sizes do not multiply to the number of devices, or the islands
        of a fast network have unequal numbers of them.
    """
    devices = list(jax.devices() if devices is None else devices)
    shape = _filled([data, fsdp, tensor], len(devices))
    kinds = (AxisType.Auto,) * len(AXES)
    return Mesh(arranged(devices, shape), AXES, axis_types=kinds)


def in_force(mesh: Mesh) -> contextlib.AbstractContextManager:
    """The mesh for what is traced inside: `layouts` reads it.

    Nothing for one device of this machine, whose programs are then the plain ones.
    """
    if isinstance(mesh, AbstractMesh):  # of devices that are nowhere: to trace for
        return jax.sharding.use_abstract_mesh(mesh)
    alone = mesh.size == 1 and mesh.devices.flat[0].platform == jax.default_backend()
    return contextlib.nullcontext() if alone else jax.set_mesh(mesh)


def island_of(device: jax.Device) -> int:
    """Which fast network a device is on: its slice (TPU), its node (GPU), its host.

    A slice of a TPU spans many hosts; a GPU's network is as fast as its `slice_index`
    says (a node, or a rack that is one domain).
    """
    found = getattr(device, "slice_index", None)
    return device.process_index if found is None else found


def arranged(devices: Sequence[jax.Device], shape: tuple[int, ...]) -> np.ndarray:
    """The devices in the shape of a mesh, neighbours on a fast network together.

    Args:
      devices: as many as `shape` has places.
      shape: (data, fsdp, tensor).

    Raises:
      InputError: the islands are unequal.
    """
    sizes = Counter(map(island_of, devices))
    if len(sizes) == 1:
        return _island(devices, shape)
    if len({*sizes.values()}) > 1:
        told = ", ".join(f"{n} on {island}" for island, n in sorted(sizes.items()))
        raise InputError(f"mesh: unequal numbers of devices per slice or node: {told}")
    apart = _over_islands(shape, len(sizes))
    inside = tuple(n // m for n, m in zip(shape, apart, strict=True))
    blocks = np.empty(len(sizes), object)
    for i, island in enumerate(sorted(sizes)):
        blocks[i] = _island([d for d in devices if island_of(d) == island], inside)
    return np.block(blocks.reshape(apart).tolist())


def _over_islands(shape: tuple[int, ...], count: int) -> tuple[int, ...]:
    """How many islands each axis spans: "data" as many as it can, then the next."""
    left, spans = count, []
    for size in shape:
        spans.append(math.gcd(size, left))
        left //= spans[-1]
    return tuple(spans)


def _island(devices: Sequence[jax.Device], shape: tuple[int, ...]) -> np.ndarray:
    """Devices of one network, in the order that jax knows to be fast."""
    try:
        return mesh_utils.create_device_mesh(
            shape, devices, allow_split_physical_axes=True
        )
    except (AssertionError, NotImplementedError, ValueError):
        return np.array(devices).reshape(shape)  # a part of a torus has no order


def parse_mesh(
    text: str, devices: Sequence[jax.Device] | None = None
) -> dict[str, int]:
    """Reads the mesh setting of a config into arguments of `make_mesh`.

    `"auto"` cuts parameters over all devices of one fast network (a slice of TPUs, a
    node of GPUs; of `devices`, all of them when None) and copies them across: the
    gathers stay on the fast network. `"2,4,1"` and `"data=2,fsdp=4"` are
    sizes; -1 stands for the rest, a missing name for 1.

    >>> parse_mesh("data=2,fsdp=-1")
    {'data': 2, 'fsdp': -1, 'tensor': 1}
    >>> parse_mesh("1,1,8")
    {'data': 1, 'fsdp': 1, 'tensor': 8}
    """
    text = text.replace(" ", "")
    if text == "auto":
        devices = jax.devices() if devices is None else devices
        islands = len({island_of(device) for device in devices})
        return {"data": islands, "fsdp": -1, "tensor": 1}
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

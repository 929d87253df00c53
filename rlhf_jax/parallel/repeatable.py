"""Runs that repeat bit for bit on an NVIDIA GPU.

There XLA chooses kernels by a stopwatch when it compiles, and may add by atomic
operations, in any order: two runs of one program differ in their last bits, and a run
that was killed and resumed does not end where an uncut one ends. On an H200 it ended in
other bits in each of 20 leaves; with the flag below in the same ones (docs/log.md).
"""

import importlib.util
import os

import jax

FLAG = "xla_gpu_deterministic_ops"
PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")


def repeat_on_gpu() -> bool:
    """Asks XLA for programs that repeat; call before jax touches a device.

    What the environment's `XLA_FLAGS` say of the flag stays: a user who prefers the
    fastest kernels sets `XLA_FLAGS=--xla_gpu_deterministic_ops=false`.

    Returns:
      Whether the flag was set here: False where no CUDA plugin of jax is installed.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if FLAG in flags or not any(map(importlib.util.find_spec, PLUGINS)):
        return False
    os.environ["XLA_FLAGS"] = f"{flags} --{FLAG}=true".strip()
    return True


def unrepeatable() -> str | None:
    """Why a resumed run may end in other bits on this device; None: it does not."""
    if jax.default_backend() not in ("gpu", "cuda", "rocm"):
        return None
    if f"{FLAG}=true" in os.environ.get("XLA_FLAGS", ""):
        return None
    return (
        f"this GPU runs without XLA_FLAGS=--{FLAG}=true: a run that is cut and resumed "
        "goes on, but not bit for bit"
    )

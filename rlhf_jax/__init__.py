"""InstructGPT in JAX.

A stage is a loss and a stream of batches. A checkpoint joins one stage to the next.

The rooms are importable one by one (`from rlhf_jax import losses`); importing the
package itself loads nothing heavier than jax, flax, optax and numpy, and loads those
only when a room that needs them is touched.
"""

import importlib

__version__ = "0.1.0"

_ROOMS = (
    "losses",
    "storage",
    "data",
    "simulation",
    "models",
    "parallel",
    "checkpoints",
    "registry",
    "sampling",
    "tracking",
    "training",
    "experience",
    "feedback",
    "evaluation",
    "stages",
    "pipeline",
    "reports",
    "cli",
)


# what people ask for by name -> its room
_NAMES = {"load_model": "registry", "load_reward": "registry"}


def __getattr__(name: str):
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS, *_NAMES])

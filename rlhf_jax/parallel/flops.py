"""The products of a program, counted before a compiler has seen it.

What a program multiplies stands in its jaxpr, recomputation of `jax.checkpoint` and the
backward pass included, and does not depend on the hardware.
"""

import math
from typing import Any

from jax.extend import core


def traced_flops(jaxpr: Any, *, turns: int = 1) -> int:
    """FLOPs of all matrix products of a program, over all devices.

    Args:
      jaxpr: `jitted.trace(...).jaxpr`.
      turns: of the `while_loop`s of a program taken together, whose number no program
        tells: a rollout's budget, shared evenly by its loops.

    Returns:
      Two for each multiplication and addition. Of branches the dearest counts; a
      kernel counts as if no block of its grid were skipped.
    """
    total, loops = 0, []
    for equation in _open(jaxpr).eqns:
        counted = _of(equation, turns)
        if equation.primitive.name == "while" and counted:
            loops.append(counted)
        else:
            total += counted
    return total + turns * sum(loops) // max(len(loops), 1)


def _of(equation: Any, turns: int) -> int:
    """Of one operation; of a `while_loop` one turn."""
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        summed = math.prod(left[axis] for axis in contracted)
        return 2 * summed * math.prod(equation.outvars[0].aval.shape)
    inner = [traced_flops(each, turns=turns) for each in _inside(params)]
    if name == "cond":
        return max(inner, default=0)
    return _times(name, params) * sum(inner)


def _times(name: str, params: dict[str, Any]) -> int:
    """How often what is inside runs."""
    if name == "scan":
        return params["length"]
    if name == "shard_map":
        axes = params.get("newly_manual_axes", params.get("manual_axes"))  # since 0.10
        return math.prod(params["mesh"].shape[axis] for axis in axes)
    if name == "pallas_call":
        return math.prod(n for n in params["grid_mapping"].grid if isinstance(n, int))
    return 1


def _inside(params: dict[str, Any]) -> list[Any]:
    """The programs that an operation holds."""
    found = []
    for value in params.values():
        values = value if isinstance(value, tuple | list) else (value,)
        found += [v for v in values if isinstance(v, core.Jaxpr | core.ClosedJaxpr)]
    return found


def _open(jaxpr: Any) -> Any:
    return getattr(jaxpr, "jaxpr", jaxpr)

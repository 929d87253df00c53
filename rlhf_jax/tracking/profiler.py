"""A profiler trace of some steps, on request."""

import os
from collections.abc import Callable, Collection
from typing import Any

import jax

StepFunction = Callable[[Any, int], tuple[Any, Any]]


def traced(
    step_fn: StepFunction, directory: str | os.PathLike, steps: Collection[int]
) -> StepFunction:
    """`step_fn` that writes a profiler trace while it runs `steps`.

    The trace can be seen with TensorBoard's profile plugin, xprof or Perfetto. Take
    steps after the first two, which compile.

    Args:
      step_fn: `(state, step) -> (state, metrics)`.
      directory: where the trace goes.
      steps: indices of consecutive steps, such as `range(10, 13)`.

    Returns:
      A function with the same results.
    """
    if not steps:
        return step_fn
    first, last = min(steps), max(steps)
    tracing = False

    def step_and_trace(state: Any, step: int) -> tuple[Any, Any]:
        nonlocal tracing
        if not first <= step <= last:
            return step_fn(state, step)
        if not tracing:
            jax.profiler.start_trace(str(directory))
            tracing = True
        done = False
        try:
            with jax.profiler.StepTraceAnnotation("step", step_num=step):
                result = step_fn(state, step)
            jax.block_until_ready(result)  # else the trace ends before the work
            done = step < last
        finally:
            if not done:
                jax.profiler.stop_trace()
                tracing = False
        return result

    return step_and_trace

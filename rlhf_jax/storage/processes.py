"""One decision for all processes: process 0 looks at the disk, all do as it says."""

import sys
from collections.abc import Callable

import numpy as np

from rlhf_jax.errors import CheckpointError, RunError

_NONE, _FAILED = -1, -2


def process_count() -> int:
    """The processes of this run; 1 where jax was not started for several.

    It starts no backend and does not import jax, so that commands without arrays stay
    quick.
    """
    jax = sys.modules.get("jax")
    if jax is None or not jax.distributed.is_initialized():
        return 1
    return jax.process_count()


def is_first_process() -> bool:
    """Whether this is the process that writes."""
    return process_count() == 1 or sys.modules["jax"].process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether the flag is set on some process; a barrier, too."""
    if process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def decided(decide: Callable[[], int | None]) -> int | None:
    """The number that process 0 decides on, on every process: a step, a choice.

    Args:
      decide: called on process 0 only.

    Raises:
      RunError: what `decide` raised, on process 0; a `CheckpointError` elsewhere.
    """
    if process_count() == 1:
        return decide()
    from jax.experimental import multihost_utils

    failure, answer = None, _NONE
    if is_first_process():
        try:
            step = decide()
            answer = _NONE if step is None else step
        except RunError as error:
            failure, answer = error, _FAILED
    answer = int(multihost_utils.broadcast_one_to_all(np.int32(answer)))
    if failure is not None:
        raise failure
    if answer == _FAILED:
        raise CheckpointError("process 0 refused to go on; see its message")
    return None if answer == _NONE else answer

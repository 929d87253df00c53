"""One decision for all processes: process 0 looks at the disk, all do as it says."""

from collections.abc import Callable

import jax
import numpy as np

from rlhf_jax.errors import CheckpointError, RunError

_NONE, _FAILED = -1, -2


def any_process(flag: bool) -> bool:
    """Whether the flag is set on some process; a barrier, too."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def decided(decide: Callable[[], int | None]) -> int | None:
    """The step that process 0 decides on, on every process.

    Args:
      decide: called on process 0 only.

    Raises:
      RunError: what `decide` raised, on process 0; a `CheckpointError` elsewhere.
    """
    if jax.process_count() == 1:
        return decide()
    from jax.experimental import multihost_utils

    failure, answer = None, _NONE
    if jax.process_index() == 0:
        try:
            step = decide()
            answer = _NONE if step is None else step
        except RunError as error:
            failure, answer = error, _FAILED
    answer = int(multihost_utils.broadcast_one_to_all(np.int32(answer)))
    if failure is not None:
        raise failure
    if answer == _FAILED:
        raise CheckpointError("process 0 refused the checkpoints; see its message")
    return None if answer == _NONE else answer

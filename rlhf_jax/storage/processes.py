"""One decision for all processes: process 0 looks at the disk, all do as it says."""

import hashlib
import os
import pathlib
import secrets
import sys
import time
from collections.abc import Callable

import numpy as np

from rlhf_jax.errors import CheckpointError, InputError, RunError

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


def together(check: Callable[[], None]) -> None:
    """Runs a check on every process; where one fails, none goes on.

    Raises:
      RunError: what `check` raised, or that another process refused.
    """
    failure = None
    try:
        check()
    except RunError as error:
        failure = error
    if any_process(failure is not None):
        raise failure or RunError("another process refused to go on; see its message")


def require_same(text: str, what: str) -> None:
    """Refuses to go on where processes of one run have different texts, such as hashes.

    Args:
      text: of this process.
      what: it is of, for the message.

    Raises:
      InputError: on every process.
    """
    if process_count() == 1:
        return
    from jax.experimental import multihost_utils

    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    found = multihost_utils.process_allgather(digest)
    others = [i for i, row in enumerate(found) if not np.array_equal(row, found[0])]
    if others:
        raise InputError(
            f"{what}: processes {', '.join(map(str, others))} have others than process "
            "0; all must be given the same files and settings"
        )


def require_one_directory(path: str | os.PathLike, *, seconds: float = 20.0) -> None:
    """Refuses a directory that is not one and the same for all processes of a run.

    Process 0 leaves a mark, all look for it.

    Args:
      path: there is a directory of that name on each process.
      seconds: how long a mark may take to be seen, on a network file system.

    Raises:
      InputError: on every process; names those that do not see the mark.
    """
    if process_count() == 1:
        return
    from jax.experimental import multihost_utils

    number = np.frombuffer(secrets.token_bytes(8), np.uint8)
    number = multihost_utils.broadcast_one_to_all(number)
    mark = pathlib.Path(path) / f".probe-{bytes(number).hex()}"
    if is_first_process():
        mark.touch(exist_ok=False)
    any_process(False)
    until = time.monotonic() + seconds
    while not (seen := mark.exists()) and time.monotonic() < until:
        time.sleep(0.2)
    found = multihost_utils.process_allgather(np.array(seen))
    if is_first_process():
        mark.unlink(missing_ok=True)
    if not found.all():
        blind = ", ".join(str(i) for i in np.flatnonzero(~found.ravel()))
        raise InputError(
            f"{path}: processes {blind} do not see there what process 0 writes; a run "
            "directory must lie on a file system that all processes share"
        )

"""One process at a time runs a stage."""

import contextlib
import fcntl
import logging
import os
import pathlib
from collections.abc import Iterator

import jax

from rlhf_jax.errors import InputError
from rlhf_jax.storage import no_links

__all__ = ["sole_runner"]

logger = logging.getLogger("rlhf_jax.pipeline")


@contextlib.contextmanager
def sole_runner(folder: pathlib.Path) -> Iterator[None]:
    """Holds a lock on a stage, so that no second process writes to it.

    The lock (`.locks/<stage>` of the run directory) goes with the process, however it
    ends; the file stays. Processes of one distributed run share a stage: the first of
    them holds it. A file system without locks goes without.

    Raises:
      InputError: another process holds it.
    """
    if jax.process_index() != 0:
        yield
        return
    path = folder.parent / ".locks" / folder.name
    path.parent.mkdir(exist_ok=True)
    with open(path, "a+", opener=no_links) as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            held.seek(0)
            raise InputError(
                f"{folder}: process {held.read().strip() or '(unknown)'} is running "
                "this stage; wait for it, or end it and run again"
            ) from error
        except OSError:
            logger.debug("%s: no locks on this file system", folder)
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        yield

"""The names in a checkpoint directory, and which steps are kept.

300/                 a step: complete, with a manifest
301.writing*/        being written, or left over from a killed run
200.deleted/         being deleted
300.replaced/        making place for another save of step 300
300.foreign-<time>/  what was no checkpoint of ours, moved out of the way
"""

import collections
import logging
import os
import pathlib
import re
import shutil
import time
from collections.abc import Iterable

from rlhf_jax.checkpoints.manifest import NAME, sync_directory
from rlhf_jax.faults import fault

logger = logging.getLogger("rlhf_jax.checkpoints")

_LEFTOVER = re.compile(r"(\d+)\.(writing|deleted|replaced)(\.orbax-checkpoint-tmp.*)?")


def named_steps(directory: pathlib.Path) -> list[int]:
    """Steps by the names in a directory, newest first; a name proves nothing yet."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    plain = (name for name in names if name.isascii() and name.isdecimal())
    return sorted((int(name) for name in plain if str(int(name)) == name), reverse=True)


def kept_steps(
    steps: Iterable[int], *, keep_last: int, keep_every: int | None
) -> set[int]:
    """The newest `keep_last` steps and the positive multiples of `keep_every`.

    >>> sorted(kept_steps([0, 5, 10, 15, 20], keep_last=2, keep_every=10))
    [10, 15, 20]
    """
    steps = sorted(steps)
    kept = set(steps[-keep_last:])
    if keep_every:
        kept |= {step for step in steps if step and step % keep_every == 0}
    return kept


def writing_path(directory: pathlib.Path, step: int) -> pathlib.Path:
    """Where a step is written before it gets its name."""
    return directory / f"{step}.writing"


def commit(directory: pathlib.Path, step: int) -> None:
    """Gives a written step its name; what stood there makes way."""
    final = directory / str(step)
    replaced = None
    if final.is_symlink() or final.exists():
        if (final / NAME).is_file() and not final.is_symlink():
            replaced = directory / f"{step}.replaced"
        else:
            replaced = directory / f"{step}.foreign-{time.time_ns()}"
            logger.warning("%s was no checkpoint: moved to %s", final, replaced.name)
        os.rename(final, replaced)
    os.rename(writing_path(directory, step), final)
    sync_directory(directory)
    if replaced is not None and replaced.suffix == ".replaced":
        shutil.rmtree(replaced)


def delete(directory: pathlib.Path, step: int) -> None:
    """Deletes a step; killed half-way, no half step remains under its name."""
    doomed = directory / f"{step}.deleted"
    os.rename(directory / str(step), doomed)
    fault("ckpt.during_delete")
    shutil.rmtree(doomed)


def remove_leftovers(directory: pathlib.Path) -> None:
    """Deletes what a killed or failed save left, so that its space comes back.

    Only names that this module gives are touched. Where a kill came between the two
    renames of a replacement, the replaced step gets its name back.
    """
    found: dict[str, list[pathlib.Path]] = collections.defaultdict(list)
    for name in os.listdir(directory) if directory.is_dir() else ():
        if match := _LEFTOVER.fullmatch(name):
            found[match[2]].append(directory / name)
    for path in found.pop("replaced", ()):
        final = path.with_suffix("")
        if final.exists():
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.rename(path, final)
    for paths in found.values():
        for path in paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)

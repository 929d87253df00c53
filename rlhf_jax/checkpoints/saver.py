"""One save at a time in the background: arrays, manifest, name, retention."""

import atexit
import contextlib
import errno
import logging
import threading
import weakref
from collections.abc import Mapping
from typing import Any

import jax

from rlhf_jax.checkpoints import steps as names
from rlhf_jax.checkpoints.arrays import ArrayFiles
from rlhf_jax.checkpoints.catalogue import Catalogue
from rlhf_jax.checkpoints.leaves import leaf_spec
from rlhf_jax.checkpoints.manifest import write_manifest
from rlhf_jax.checkpoints.messages import reason, space
from rlhf_jax.errors import CheckpointError
from rlhf_jax.faults import fault
from rlhf_jax.storage.processes import any_process

logger = logging.getLogger("rlhf_jax.checkpoints")


class Saver:
    """Writes steps so that each is complete or absent, whenever the process dies.

    The order: arrays under another name; the manifest; the step's name; and only then
    are old steps deleted. What fails, or is killed, leaves a name that no reader takes
    for a step, and `tidy` or the next save removes it.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        files: ArrayFiles,
        *,
        keep_last: int,
        keep_every: int | None,
        raises: bool,
    ):
        """Args:
        catalogue: of the directory.
        files: writes the arrays.
        keep_last: newest steps kept.
        keep_every: besides, multiples of this.
        raises: raise what a save met; else log it.
        """
        self.catalogue, self.files = catalogue, files
        self.directory = catalogue.directory
        self.keep_last, self.keep_every, self.raises = keep_last, keep_every, raises
        self._existed = self.directory.is_dir()
        self._cleaned = False
        self._thread: threading.Thread | None = None
        self._failure: tuple[int, int, BaseException] | None = None  # step, bytes, why
        atexit.register(_say_if_lost, weakref.ref(self))

    def start(self, step: int, leaves: Mapping[str, Any], about: dict) -> None:
        """Copies the leaves and begins to write them.

        Args:
          step: its name.
          leaves: by path.
          about: `meta` and `identity` for the manifest.

        Raises:
          CheckpointError: it failed already.
        """
        self.wait()
        size = sum(getattr(leaf, "nbytes", 8) for leaf in leaves.values())
        about = about | {"leaves": {n: leaf_spec(leaf) for n, leaf in leaves.items()}}
        described = {name: _described(leaf) for name, leaf in leaves.items()}
        try:
            self._make_room()
            self.files.write(names.writing_path(self.directory, step), leaves)
        except (OSError, ValueError, RuntimeError) as error:
            self._failure = (step, size, error)
            self._tell()
            return
        self._thread = threading.Thread(
            target=self._finish, args=(step, size, about, described), name="checkpoint"
        )
        self._thread.start()

    def wait(self) -> None:
        """Waits until the save in flight is a step.

        Raises:
          CheckpointError: it failed.
        """
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        if any_process(self._failure is not None):
            elsewhere = RuntimeError("it failed on another process")
            self._failure = self._failure or (-1, 0, elsewhere)
            self._tell()

    def tidy(self) -> None:
        """Removes what killed saves left; see `CheckpointStore.tidy`."""
        if jax.process_index() == 0:
            # a directory that cannot be written to is the next save's to tell
            with contextlib.suppress(OSError):
                names.remove_leftovers(self.directory)
        any_process(False)  # nobody looks before it is done

    def _make_room(self) -> None:
        """The directory is there, and nothing of earlier saves is in the way."""
        failure: OSError | None = None
        try:
            if jax.process_index() == 0:
                if self._existed and not self.directory.is_dir():
                    text = "the directory was removed during the run"
                    raise FileNotFoundError(errno.ENOENT, text)
                self.directory.mkdir(parents=True, exist_ok=True)
                if not self._cleaned:  # not before: a reader must not delete anything
                    names.remove_leftovers(self.directory)
            fault("ckpt.before_write")
        except OSError as error:
            failure = error
        if any_process(failure is not None):
            raise failure or RuntimeError("it failed on another process")
        self._existed = self._cleaned = True

    def _finish(self, step: int, size: int, about: dict, leaves: dict) -> None:
        """In the background, after the arrays: manifest, name, retention."""
        try:
            self.files.wait()
            if jax.process_index() == 0:
                fault("ckpt.before_manifest")
                path = names.writing_path(self.directory, step)
                self.files.check(path, leaves)
                write_manifest(path, step=step, **about)
                fault("ckpt.before_commit")
                names.commit(self.directory, step)
                self.catalogue.damaged.discard(step)
                fault("ckpt.before_delete")
                self._retire()
        except BaseException as error:
            self._failure = (step, size, error)

    def _retire(self) -> None:
        """Deletes usable steps that are not kept; what is damaged is left alone."""
        usable, _ = self.catalogue.look()
        kept = names.kept_steps(
            usable, keep_last=self.keep_last, keep_every=self.keep_every
        )
        for step in usable:
            if step not in kept:
                names.delete(self.directory, step)

    def _tell(self) -> None:
        (step, size, error), self._failure = self._failure, None
        if jax.process_index() == 0:
            names.remove_leftovers(self.directory)
        message = (
            f"step {step} could not be saved in {self.directory}: {reason(error)}"
            f"{space(self.directory, size)}; the steps {self.catalogue.look()[0]} are "
            "as they were"
        )
        if self.raises:
            raise CheckpointError(message) from error
        logger.error("%s; going on without", message)


def _described(leaf: Any) -> Any:
    """A leaf without its values: the background must not hold donated arrays."""
    if isinstance(leaf, jax.Array):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    return leaf


def _say_if_lost(reference: "weakref.ref[Saver]") -> None:
    """At the end of a process that never closed its store: a save cannot finish."""
    saver = reference()
    if saver is None or saver._thread is None:
        return
    saver._thread.join()
    if saver._failure is not None:
        step, _, error = saver._failure
        logger.error(
            "step %d was not saved, the store was never closed: %s", step, reason(error)
        )

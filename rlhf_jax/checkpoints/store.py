"""The checkpoints of a run: complete, verified, and refused if wrong."""

import json
import logging
import os
import pathlib
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import jax

from rlhf_jax.checkpoints import steps as names
from rlhf_jax.checkpoints.arrays import ArrayFiles
from rlhf_jax.checkpoints.catalogue import Catalogue
from rlhf_jax.checkpoints.leaves import leaf_specs, named_leaves, nested, non_finite
from rlhf_jax.checkpoints.manifest import Manifest, read_manifest, write_manifest
from rlhf_jax.checkpoints.messages import reason, space
from rlhf_jax.checkpoints.preflight import check_identity, check_leaves, subtree_like
from rlhf_jax.checkpoints.processes import any_process, decided
from rlhf_jax.errors import CheckpointError, InputError, NumericsError
from rlhf_jax.faults import fault

logger = logging.getLogger("rlhf_jax.checkpoints")


class CheckpointStore:
    """A directory of checkpoints, one per step.

    A step counts only with its manifest (see `manifest`), which is written last and
    holds a checksum of every file. `restore` verifies all of them before it reads an
    array, and falls back to the step before where one is damaged. Saving is
    asynchronous; an error of a save is raised by the next call.

    With several processes every method is called by all of them; process 0 alone
    looks at names and hashes, and all do as it says.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        *,
        keep_last: int = 3,
        keep_every: int | None = None,
        on_save_error: Literal["abort", "continue"] = "abort",
        identity: Mapping[str, Any] | None = None,
        override: Iterable[str] = (),
        allow_fresh: bool = False,
    ):
        """Args:
        directory: on a file system with atomic renames; made by the first save.
        keep_last: newest steps kept.
        keep_every: besides, steps that are multiples of this are kept for good.
        on_save_error: "abort" raises what a failed save met; "continue" logs it, and
          the next save tries again.
        identity: what must be equal for a run to go on from a checkpoint: stage,
          model config, hashes of data and tokenizer; JSON types. Stored with each.
        override: dotted keys of the identity that may differ.
        allow_fresh: start anew where there are steps but none is usable.
        """
        if "://" in os.fspath(directory):
            raise InputError(f"{directory}: mount the bucket; URLs cannot be renamed")
        if keep_last < 1 or (keep_every is not None and keep_every < 1):
            raise InputError("keep_last and keep_every must be at least 1")
        if on_save_error not in ("abort", "continue"):
            raise InputError(f"on_save_error: {on_save_error!r}: abort or continue")
        self.directory = pathlib.Path(directory).absolute()
        self.keep_last, self.keep_every = keep_last, keep_every
        self.on_save_error = on_save_error
        self.identity = _as_json(identity or {}, "identity")
        self.override = frozenset(override)
        self.allow_fresh = allow_fresh
        self._files = ArrayFiles()
        self._existed = self.directory.is_dir()
        self._catalogue = Catalogue(self.directory)
        self._cleaned = False
        self._thread: threading.Thread | None = None
        self._failure: tuple[int, int, BaseException] | None = None  # step, bytes, why

    # Saving

    def save(
        self,
        step: int,
        state: Any,
        meta: Mapping[str, Any] | None = None,
        *,
        force: bool = False,
    ) -> None:
        """Saves a state in the background; it may be donated as soon as this returns.

        Args:
          step: steps completed; after every step saved before.
          state: a pytree of arrays, typed keys and numbers.
          meta: JSON types, given back by `restore`.
          force: also where this very step is already saved; it is replaced.

        Raises:
          NumericsError: a floating leaf is not finite; nothing is written.
          CheckpointError: this or the save before failed, or `step` is not new.
          InputError: the state or the meta cannot be stored.
        """
        self.wait()
        meta = _as_json(meta or {}, "meta")
        leaves = named_leaves(state)
        if bad := non_finite(leaves):
            raise NumericsError(
                f"step {step}: not saved, {len(bad)} of {len(leaves)} leaves hold NaN "
                f"or infinity: {', '.join(bad[:5])}"
            )
        self._check_order(step, force)
        specs = leaf_specs(state)
        size = sum(getattr(leaf, "nbytes", 8) for leaf in leaves.values())
        try:
            if jax.process_index() == 0:
                self._make_room()
            fault("ckpt.before_write")
            self._files.write(names.writing_path(self.directory, step), leaves)
        except (OSError, ValueError, RuntimeError) as error:
            self._failure = (step, size, error)
            self._raise_failure()
            return
        self._thread = threading.Thread(
            target=self._finish, args=(step, size, meta, specs), name="checkpoint"
        )
        self._thread.start()

    def _check_order(self, step: int, force: bool) -> None:
        newest = decided(self._catalogue.newest)
        if newest is None:
            return
        if step < newest or (step == newest and not force):
            raise CheckpointError(
                f"{self.directory}: step {step} is not after step {newest}, which is "
                "saved already. To go on from an earlier step, drop the later ones "
                f"first: discard_after({step - 1})"
            )

    def _make_room(self) -> None:
        if self._existed and not self.directory.is_dir():
            raise FileNotFoundError(None, "the directory was removed during the run")
        self.directory.mkdir(parents=True, exist_ok=True)
        self._existed = True
        if not self._cleaned:  # not before: a mere reader must not delete anything
            names.remove_leftovers(self.directory)
            self._cleaned = True

    def _finish(self, step: int, size: int, meta: dict, specs: dict) -> None:
        """In the background: waits for the arrays, then manifest, name, retention."""
        try:
            self._files.wait()
            if jax.process_index() == 0:
                fault("ckpt.before_manifest")
                path = names.writing_path(self.directory, step)
                write_manifest(
                    path, step=step, meta=meta, identity=self.identity, leaves=specs
                )
                fault("ckpt.before_commit")
                names.commit(self.directory, step)
                self._catalogue.damaged.discard(step)
                fault("ckpt.before_delete")
                self._retire()
        except BaseException as error:
            self._failure = (step, size, error)

    def _retire(self) -> None:
        """Deletes steps that are not kept; the newest is complete by now."""
        steps = self.steps()
        kept = names.kept_steps(
            steps, keep_last=self.keep_last, keep_every=self.keep_every
        )
        for step in steps:
            if step not in kept:
                names.delete(self.directory, step)

    def wait(self) -> None:
        """Waits until the save in flight is complete and verified.

        Raises:
          CheckpointError: it failed (with `on_save_error="abort"`).
        """
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        if any_process(self._failure is not None) and self._failure is None:
            self._failure = (-1, 0, RuntimeError("the save failed on another process"))
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is None:
            return
        (step, size, error), self._failure = self._failure, None
        if jax.process_index() == 0:
            names.remove_leftovers(self.directory)
        if not isinstance(error, Exception):
            raise error
        message = (
            f"step {step} could not be saved in {self.directory}: {reason(error)}"
            f"{space(self.directory, size)}; steps {self.steps()} are as they were"
        )
        if self.on_save_error == "abort":
            raise CheckpointError(message) from error
        logger.error("%s; going on without", message)

    def close(self) -> None:
        """Waits for the save in flight; raises what it met."""
        try:
            self.wait()
        finally:
            self._files.close()

    # Looking

    def steps(self) -> list[int]:
        """Steps with a good manifest and all files of their sizes, ascending.

        What this process sees; `latest_step` is what all agree on.
        """
        return self._catalogue.look()[0]

    def latest_step(self) -> int | None:
        """The newest of `steps()`; None where no checkpoint was ever saved.

        Raises:
          CheckpointError: there are steps, but none is usable (unless `allow_fresh`).
        """
        self.wait()
        return decided(lambda: self._catalogue.newest(refuse=not self.allow_fresh))

    def meta(self, step: int | None = None) -> dict[str, Any]:
        """The meta of a step, of the newest by default, without reading arrays.

        Raises:
          CheckpointError: no such step.
        """
        step = self.latest_step() if step is None else step
        if step is None:
            raise CheckpointError(self._catalogue.none_usable({}))
        return read_manifest(self._catalogue.path(step)).meta

    # Restoring

    def restore(
        self, template_state: Any, *, step: int | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """The newest usable state, or that of a step.

        Args:
          template_state: a tree like the saved one: arrays, or `jax.ShapeDtypeStruct`s
            with the shardings to restore onto, whatever mesh saved them.
          step: exactly this step; without it, damaged steps are passed over, aloud.

        Returns:
          (state, meta): every leaf bit for bit as it was saved.

        Raises:
          InputError: the state or the identity of the run is another; lists what.
          CheckpointError: no usable checkpoint, or the step is absent or damaged.
        """
        like = named_leaves(template_state)

        def check(path: pathlib.Path, manifest: Manifest) -> None:
            check_leaves(path, manifest.leaves, leaf_specs(template_state))
            check_identity(path, manifest.identity, self.identity, self.override)

        path, manifest = self._usable(step, check)
        leaves = self._read(path, like)
        structure = jax.tree.structure(template_state)
        return jax.tree.unflatten(structure, leaves.values()), manifest.meta

    def restore_params(
        self,
        template: Any = None,
        *,
        subtree: str = "params",
        step: int | None = None,
    ) -> Any:
        """A part of a state, for the next stage; the identity may differ.

        Args:
          template: a tree of what is wanted under `subtree`: leaves as for `restore`,
            floating dtypes may differ and are cast, and leaves of the checkpoint that
            it lacks are not read. None: all of it, as numpy arrays in nested dicts.
          subtree: path of the part: "params", "params/policy", "ema".
          step: as for `restore`.

        Returns:
          A tree like `template`.

        Raises:
          InputError: the checkpoint lacks a leaf, or has it in another shape.
          CheckpointError: as for `restore`.
        """
        wanted: dict[str, Any] = {}

        def check(path: pathlib.Path, manifest: Manifest) -> None:
            wanted.update(subtree_like(path, manifest.leaves, subtree, template))

        path, _ = self._usable(step, check)
        leaves = self._read(path, wanted)
        if template is None:
            return nested({n.removeprefix(f"{subtree}/"): v for n, v in leaves.items()})
        return jax.tree.unflatten(jax.tree.structure(template), leaves.values())

    def discard_after(self, step: int) -> None:
        """Deletes the later steps, damaged ones too, to go on from an earlier one."""
        self.wait()
        if jax.process_index() == 0:
            for later in names.named_steps(self.directory):
                if later > step:
                    names.delete(self.directory, later)
        any_process(False)

    def _usable(self, step: int | None, check: Any) -> tuple[pathlib.Path, Manifest]:
        """The step to restore, every byte verified, the same on all processes."""
        self.wait()
        chosen = decided(lambda: self._catalogue.choose(step, check))
        path = self._catalogue.path(chosen)
        manifest = read_manifest(path)
        check(path, manifest)  # every process, for what it fills in
        return path, manifest

    def _read(self, path: pathlib.Path, like: dict[str, Any]) -> dict[str, Any]:
        fault("ckpt.before_read")
        try:
            return self._files.read(path, like)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise CheckpointError(f"{path}: {reason(error)}") from error


def _as_json(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What JSON gives back for `settings`."""
    try:
        return json.loads(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} of a checkpoint must be JSON: {error}") from error

"""The checkpoints of a run: complete, verified, and refused if wrong."""

import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import jax

from rlhf_jax.checkpoints import steps as names
from rlhf_jax.checkpoints.arrays import ArrayFiles
from rlhf_jax.checkpoints.catalogue import Catalogue
from rlhf_jax.checkpoints.leaves import leaf_specs, named_leaves, nested, non_finite
from rlhf_jax.checkpoints.manifest import (
    NAME,
    Manifest,
    as_json,
    read_manifest,
)
from rlhf_jax.checkpoints.messages import reason
from rlhf_jax.checkpoints.preflight import check_identity, check_leaves, subtree_like
from rlhf_jax.checkpoints.saver import Saver
from rlhf_jax.errors import CheckpointError, InputError, NumericsError
from rlhf_jax.faults import fault
from rlhf_jax.storage.processes import any_process, decided


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
          model config, hashes of data and tokenizer; JSON types. Stored with each
          step. None, for a reader: not compared.
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
        self.identity = None if identity is None else as_json(identity, "identity")
        self.override = frozenset(override)
        self.allow_fresh = allow_fresh
        self._files = ArrayFiles()
        self._catalogue = Catalogue(self.directory)
        self._saver = Saver(
            self._catalogue,
            self._files,
            keep_last=keep_last,
            keep_every=keep_every,
            raises=on_save_error == "abort",
        )

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
        meta = as_json(meta or {}, "meta")
        leaves = named_leaves(state)
        if bad := non_finite(leaves):
            raise NumericsError(
                f"step {step}: not saved, {len(bad)} of {len(leaves)} leaves hold NaN "
                f"or infinity: {', '.join(bad[:5])}"
            )
        self._check_order(step, force)
        about = {"meta": meta, "identity": self.identity or {}}
        self._saver.start(step, leaves, about)

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

    def wait(self) -> None:
        """Waits until the save in flight has its manifest and its name.

        Raises:
          CheckpointError: it failed (with `on_save_error="abort"`).
        """
        self._saver.wait()

    def tidy(self) -> None:
        """Removes what killed saves left behind, so that its space comes back.

        For the one run that saves here, before it goes on: another run's save in
        flight would be taken for a leftover. A save does the same; a run that was
        killed after its last one makes no more.
        """
        self._saver.tidy()

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
        if self.allow_fresh:
            return decided(self._catalogue.newest_whole)
        return decided(lambda: self._catalogue.newest(refuse=True))

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
            if self.identity is not None:
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
            wanted.clear()
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
                if later > step and (self._catalogue.path(later) / NAME).is_file():
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

"""Which steps of a directory are usable, and why the others are not."""

import logging
import pathlib
from collections.abc import Callable

from rlhf_jax.checkpoints.manifest import Manifest, damage, read_manifest
from rlhf_jax.checkpoints.steps import named_steps
from rlhf_jax.errors import CheckpointError

logger = logging.getLogger("rlhf_jax.checkpoints")

Check = Callable[[pathlib.Path, Manifest], None]


class Catalogue:
    """Looks at a checkpoint directory and changes nothing.

    Attributes:
      directory: where the steps are.
      damaged: steps whose bytes were read and found changed; a good save of the same
        step takes it off.
    """

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        self.damaged: set[int] = set()

    def path(self, step: int) -> pathlib.Path:
        """The directory of a step."""
        return self.directory / str(step)

    def manifest(self, step: int, *, hashes: bool = False) -> Manifest:
        """The manifest of a step whose files are all there, in their right sizes.

        Args:
          step: the step.
          hashes: read and compare every byte, too.

        Raises:
          CheckpointError: names the bad file.
        """
        path = self.path(step)
        manifest = read_manifest(path)
        if manifest.step != step:
            raise CheckpointError(f"{path}: holds step {manifest.step}, not {step}")
        if wrong := damage(path, manifest, hashes=hashes):
            raise CheckpointError(wrong)
        return manifest

    def look(self) -> tuple[list[int], dict[int, str]]:
        """Usable steps, ascending, and why the others are not; file bytes unread."""
        usable, reasons = [], {}
        for step in reversed(named_steps(self.directory)):
            try:
                if step in self.damaged:
                    raise CheckpointError("its bytes have changed")
                self.manifest(step)
                usable.append(step)
            except CheckpointError as error:
                reasons[step] = str(error)
        return usable, reasons

    def newest(self, *, refuse: bool = False) -> int | None:
        """The newest usable step.

        Args:
          refuse: raise where there are steps and none is usable.

        Raises:
          CheckpointError: says why each is not.
        """
        usable, reasons = self.look()
        if refuse and reasons and not usable:
            raise CheckpointError(self.none_usable(reasons))
        return max(usable, default=None)

    def newest_whole(self) -> int | None:
        """The newest step, every byte read; None, aloud, where there is none."""
        try:
            return self.choose(None, lambda path, manifest: None)
        except CheckpointError as error:
            if named_steps(self.directory):
                logger.warning("a fresh start: %s", error)
            return None

    def choose(self, step: int | None, check: Check) -> int:
        """The newest step that is whole, every byte read, or exactly `step`.

        Args:
          step: exactly this one, without falling back.
          check: called with each candidate before its bytes are read: a wrong config
            must not wait for gigabytes. What it raises is not damage and ends all.

        Raises:
          CheckpointError: none is whole.
        """
        reasons: dict[int, str] = {}
        candidates = named_steps(self.directory) if step is None else [step]
        for candidate in candidates:
            try:
                check(self.path(candidate), read_manifest(self.path(candidate)))
                self.manifest(candidate, hashes=True)
            except CheckpointError as error:
                reasons[candidate] = str(error)
                self.damaged.add(candidate)
                continue
            for bad, reason in reasons.items():
                logger.warning(
                    "step %d is not usable, step %d is used instead: %s",
                    bad,
                    candidate,
                    reason,
                )
            return candidate
        if step is not None:
            raise CheckpointError(f"step {step} cannot be used: {reasons[step]}")
        raise CheckpointError(self.none_usable(reasons))

    def none_usable(self, reasons: dict[int, str]) -> str:
        """The message where nothing can be used."""
        if not reasons:
            return f"{self.directory}: no checkpoint"
        lines = "\n".join(f"  step {step}: {why}" for step, why in reasons.items())
        return (
            f"{self.directory}: no usable checkpoint\n{lines}\n"
            "To start anew, move the directory away or allow a fresh start."
        )

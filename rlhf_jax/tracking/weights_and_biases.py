"""Metrics to Weights & Biases, where it is installed and asked for."""

import os
import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

from rlhf_jax.errors import InputError
from rlhf_jax.storage import replacing_here


class WandbWriter:
    """One W&B run for one run directory, also after a resume."""

    def __init__(
        self,
        directory: str | os.PathLike,
        project: str,
        config: Mapping[str, Any] | None = None,
    ):
        """Args:
        directory: of the run; the W&B id is kept in its `wandb_id`.
        project: the W&B project.
        config: shown with the run.

        Raises:
          InputError: wandb is not installed, or refuses to begin a run.
        """
        try:
            import wandb
        except ImportError as error:
            raise InputError(
                "wandb is asked for but not installed: pip install 'rlhf_jax[wandb]'"
            ) from error
        directory = pathlib.Path(directory)
        name = directory / "wandb_id"
        if not name.exists():
            with replacing_here(name) as file:
                file.write(secrets.token_hex(4))
        try:
            self._run = wandb.init(
                project=project,
                dir=str(directory),
                id=name.read_text().strip(),
                name=directory.name,
                resume="allow",
                config=dict(config or {}),
            )
        except Exception as error:  # no key, no network: wandb has many classes
            why = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"wandb: {why}; run `wandb login`, or set WANDB_MODE=offline"
            ) from error

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        """Sends the numbers of one step; W&B itself drops a step it has seen."""
        self._run.log(dict(metrics), step=step)

    def text(self, step: int, name: str, text: str) -> None:
        """Sends a text."""
        self._run.log({name: text}, step=step)

    def rewind(self, step: int) -> None:
        """Nothing: W&B cannot take steps back, and ignores those that run again."""

    def close(self) -> None:
        """Ends the W&B run."""
        self._run.finish()

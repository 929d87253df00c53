"""The metrics of a run, to every place that wants them."""

import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from rlhf_jax.errors import InputError
from rlhf_jax.tracking.lines import LineFile
from rlhf_jax.tracking.progress import Progress
from rlhf_jax.tracking.tensorboard import TensorBoardWriter
from rlhf_jax.tracking.weights_and_biases import WandbWriter

logger = logging.getLogger("rlhf_jax.tracking")


class RunTracker:
    """Writes each step's metrics exactly once; process 0 only, others do nothing.

    metrics.jsonl   always: one line of JSON per step
    texts.jsonl     texts such as samples, when there are some
    tensorboard/    event files
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        tensorboard: bool = True,
        wandb: str | None = None,
        config: Mapping[str, Any] | None = None,
        total_steps: int | None = None,
        description: str = "",
    ):
        """Opens the files of a run; lines of an earlier start stay (see `rewind`).

        Args:
          workdir: the run's directory, made if absent.
          tensorboard: write event files.
          wandb: project on Weights & Biases; None: not used.
          config: sent to W&B.
          total_steps: of the run; shows progress on stderr. None: no progress.
          description: what the progress says is running.

        Raises:
          InputError: the directory cannot be written, or wandb is not installed.
        """
        self.workdir = pathlib.Path(workdir)
        self._metrics: LineFile | None = None
        self._texts: LineFile | None = None
        self._writers: list[TensorBoardWriter | WandbWriter] = []
        self._progress: Progress | None = None
        if jax.process_index() != 0:
            return
        try:
            self.workdir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.workdir}: {error.strerror}") from error
        self._metrics = LineFile(self.workdir / "metrics.jsonl")
        if (self.workdir / "texts.jsonl").exists():
            self._texts = LineFile(self.workdir / "texts.jsonl")
        if tensorboard:
            self._writers.append(TensorBoardWriter(self.workdir / "tensorboard"))
        if wandb is not None:
            self._writers.append(WandbWriter(self.workdir, wandb, config))
        if total_steps is not None:
            self._progress = Progress(total_steps, description)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes the metrics of one step.

        Args:
          step: steps completed, after the step of the line before.
          metrics: numbers; other JSON types go to metrics.jsonl only.

        Raises:
          ValueError: the step is already written; `rewind` takes steps back.
          InputError: the disk is full.
        """
        if self._metrics is None:
            return
        last = self._metrics.last_step
        if last is not None and step <= last:
            raise ValueError(f"step {step} is logged after step {last}")
        self._metrics.append(step, metrics)
        numbers = {n: float(v) for n, v in metrics.items() if _is_number(v)}
        for writer in self._writers:
            writer.scalars(step, numbers)
        if self._progress is not None:
            self._progress.update(step, numbers)

    def text(self, step: int, name: str, text: str) -> None:
        """Writes a text, such as a sample, to texts.jsonl and the writers.

        Args:
          step: steps completed.
          name: what it is.
          text: any text.
        """
        if self._metrics is None:
            return
        if self._texts is None:
            self._texts = LineFile(self.workdir / "texts.jsonl")
        self._texts.append(step, {"name": name, "text": text})
        for writer in self._writers:
            writer.text(step, name, text)

    def rewind(self, step: int) -> None:
        """Takes back what is later than `step`; these steps run again."""
        if self._metrics is None:
            return
        dropped = self._metrics.rewind(step)
        if self._texts is not None:
            self._texts.rewind(step)
        if dropped:
            logger.info("metrics of %d steps after %d were taken back", dropped, step)
        for writer in self._writers:
            writer.rewind(step)
        if self._progress is not None:
            self._progress.rewind(step)

    def close(self) -> None:
        """Flushes and closes everything; a second call does nothing."""
        for part in (self._progress, self._metrics, self._texts, *self._writers):
            if part is not None:
                part.close()
        self._metrics = self._texts = self._progress = None
        self._writers = []

    def __enter__(self) -> "RunTracker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_number(value: Any) -> bool:
    return getattr(value, "ndim", 0) == 0 and not isinstance(
        value, (str, list, tuple, Mapping, type(None))
    )

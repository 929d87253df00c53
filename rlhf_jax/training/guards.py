"""What the loop does about bad numbers: write down, warn, stop."""

import collections
import contextlib
import json
import logging
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax

from rlhf_jax.errors import NumericsError
from rlhf_jax.storage import replacing_here
from rlhf_jax.tracking.lines import LineFile, read_metrics
from rlhf_jax.training.alarms import DEFAULT_ALARMS, Alarm

logger = logging.getLogger("rlhf_jax.training")

ALARMS = "alarms.jsonl"
FIRST = 20  # steps of the run's start that alarms always see
WINDOW = 40  # half of so many steps skipped end a run; float16 finds its scale in 16


class Guards:
    """Sees the metrics of every step once, in order.

    - A skipped update: the ids of its batch go to `bad_batches/step_<n>.json`.
    - `max_skipped` skipped updates in a row, or half of the last `WINDOW` steps:
      `NumericsError`. The params are those of the last good update.
    - Alarms: a line in the log and in `alarms.jsonl` when one begins and every
      `repeat_every` steps while it lasts; "stop" raises `NumericsError`.
    """

    def __init__(
        self,
        workdir: str | pathlib.Path | None = None,
        *,
        alarms: Iterable[Alarm] = DEFAULT_ALARMS,
        max_skipped: int = 5,
        batch_ids: Callable[[int], Any] | None = None,
        history: int = 200,
        repeat_every: int = 100,
    ):
        """Args:
        workdir: the run's directory; nothing is written when None.
        alarms: what to watch besides skipped updates.
        max_skipped: skipped updates in a row that end the run. The number is ours.
        batch_ids: from the index of a step (0 is the first) to what names the rows
          of its batch, in types of JSON.
        history: latest steps whose metrics alarms can look back on, besides the
          `FIRST` of the run.
        repeat_every: steps between two lines of an alarm that lasts.
        """
        self.workdir = pathlib.Path(workdir) if workdir is not None else None
        self.alarms = tuple(alarms)
        self.max_skipped = max_skipped
        self.batch_ids = batch_ids
        self.history = collections.deque(maxlen=history)
        self.first: list[Mapping[str, float]] = []
        self.repeat_every = repeat_every
        self.last_line: dict[str, int] = {}
        self.firing: set[str] = set()

    def observe(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of one step.

        Args:
          step: steps completed, this one included.
          metrics: numbers on the host.

        Raises:
          NumericsError: too many skipped updates in a row, or an alarm says stop.
        """
        history = self._taken(metrics)
        if metrics.get("skipped", 0):
            self._write_bad_batch(step, metrics)
        self._require_few_skipped(step, metrics)
        for alarm in self.alarms:
            self._ask(alarm, step, history)

    def _taken(self, metrics: Mapping[str, float]) -> tuple[Mapping[str, float], ...]:
        """The history with one more step: the first of the run, then the latest."""
        if len(self.history) == self.history.maxlen and len(self.first) < FIRST:
            self.first.append(self.history[0])  # falls out now
        self.history.append(metrics)
        return (*self.first, *self.history)

    def _require_few_skipped(self, step: int, metrics: Mapping[str, float]) -> None:
        in_a_row = int(metrics.get("skipped_in_a_row", 0))
        if in_a_row >= self.max_skipped:
            raise NumericsError(
                f"step {step}: {in_a_row} updates in a row had non-finite gradients "
                "and were skipped; the parameters are those of the last good update. "
                "The batches are named in bad_batches/. Lower the learning rate, or "
                "look at these rows."
            )
        latest = list(self.history)[-WINDOW:]
        skipping = sum(1 for row in latest if row.get("skipped", 0))
        if 2 * skipping >= WINDOW:
            raise NumericsError(
                f"step {step}: {skipping} of the last {len(latest)} steps had "
                "non-finite gradients and were skipped, now and again: some row gives "
                "them each time it comes. The batches are named in bad_batches/."
            )

    def recall(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Takes what a run had logged before it goes on.

        Alarms look back on it as if the run had not been cut. What stopped the run
        stops it again: a run that is simply started once more is not a remedy.

        Args:
          rows: (steps completed, metrics) in order.

        Raises:
          NumericsError: as `observe` did.
        """
        for number, (step, metrics) in enumerate(rows):
            history = self._taken(metrics)
            if number < len(rows) - self.history.maxlen:
                continue
            self._require_few_skipped(step, metrics)
            self.firing = set()
            for alarm in self.alarms:
                found = alarm.when(history)
                self.firing |= {alarm.name} if found is not None else set()
                if found is not None and alarm.action == "stop":
                    raise NumericsError(
                        f"step {step}: {alarm.name}: {found}; this stopped the run "
                        "before, and it goes on under another setting only"
                    )

    def forget(self) -> None:
        """Drops what it recalls."""
        self.first.clear()
        self.history.clear()

    def rewind(self, step: int) -> None:
        """Takes back what was written down of later steps: they run again.

        Of the alarms before, it remembers when each was last told.
        """
        if not self._writes() or not self.workdir.is_dir():
            return
        for path in self.workdir.glob("bad_batches/step_*.json"):
            if int(path.stem.removeprefix("step_")) > step:
                path.unlink()
        if (self.workdir / ALARMS).exists():
            with contextlib.closing(LineFile(self.workdir / ALARMS)) as file:
                file.rewind(step)
            rows = read_metrics(self.workdir / ALARMS)
            self.last_line |= {row["alarm"]: row["step"] for row in rows}

    def _ask(self, alarm: Alarm, step: int, history: tuple) -> None:
        message = alarm.when(history)
        if message is None:
            self.firing.discard(alarm.name)
            return
        since = step - self.last_line.get(alarm.name, -self.repeat_every)
        if alarm.name not in self.firing or since >= self.repeat_every:
            self.firing.add(alarm.name)
            self.last_line[alarm.name] = step
            logger.warning("step %d: %s: %s", step, alarm.name, message)
            self._write_alarm(alarm, step, message)
        if alarm.action == "stop":
            raise NumericsError(f"step {step}: {alarm.name}: {message}")

    def _write_bad_batch(self, step: int, metrics: Mapping[str, float]) -> None:
        logger.warning("step %d: non-finite loss or gradient, update skipped", step)
        if self._writes():
            folder = self.workdir / "bad_batches"
            folder.mkdir(parents=True, exist_ok=True)
            row = {"step": step, "batch": self._named(step), "metrics": metrics}
            with replacing_here(folder / f"step_{step:08d}.json") as file:
                file.write(json.dumps(row, indent=2, default=str) + "\n")

    def _write_alarm(self, alarm: Alarm, step: int, message: str) -> None:
        if self._writes():
            self.workdir.mkdir(parents=True, exist_ok=True)
            row = {"alarm": alarm.name, "action": alarm.action}
            row |= {"message": message, "batch": self._named(step)}
            with contextlib.closing(LineFile(self.workdir / ALARMS)) as file:
                file.append(step, row)

    def _named(self, step: int) -> Any:
        return None if self.batch_ids is None else self.batch_ids(step - 1)

    def _writes(self) -> bool:
        return self.workdir is not None and jax.process_index() == 0

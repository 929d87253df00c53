"""How far a run is, how fast it goes and when it ends; on stderr."""

import collections
import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import jax

from rlhf_jax.literal import literal

SHOWN = ("loss", "score", "kl", "accuracy")
_WINDOW = 50  # updates that the rate looks back, so that compiling is soon forgotten


class Progress:
    """Counts steps; plain lines where stderr is no terminal, a bar where it is."""

    def __init__(
        self,
        total: int,
        description: str = "",
        *,
        start: int = 0,
        every: float = 10.0,
        file: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Args:
        total: steps of the whole run.
        description: what is running.
        start: steps completed before; they do not count for the rate.
        every: seconds between two plain lines.
        file: stderr when None.
        clock: seconds.
        """
        self.total, self.step = total, start
        self.description = description = literal(description).replace("\n", " ")
        self.every, self.clock = every, clock
        self.file = file or sys.stderr
        self._times = collections.deque([(clock(), start)], maxlen=_WINDOW)
        self._last_line = -math.inf
        self._bar: Any = None
        if self.file.isatty():
            self._bar, self._task = _bar(self.file, total, description, start)
            self._bar.start()

    def update(self, step: int, metrics: Mapping[str, Any] | None = None) -> None:
        """Says that `step` steps are complete; shows some of their metrics."""
        self.step = step
        now = self.clock()
        self._times.append((now, step))
        if self._bar is not None:
            about = _about(self.rate, self.seconds_left, metrics or {})
            self._bar.update(self._task, completed=step, about=about)
        elif step >= self.total or now - self._last_line >= self.every:
            self._last_line = now
            print(self.line(metrics or {}), file=self.file, flush=True)

    def rewind(self, step: int) -> None:
        """Starts counting from `step`."""
        self.step = step
        self._times.clear()
        self._times.append((self.clock(), step))
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    @property
    def rate(self) -> float:
        """Steps per second over the latest updates; 0 before the first."""
        (t0, first), (t1, last) = self._times[0], self._times[-1]
        return (last - first) / (t1 - t0) if t1 > t0 else 0.0

    @property
    def seconds_left(self) -> float:
        """Seconds to the end at this rate; infinite where it is unknown."""
        left = max(self.total - self.step, 0)
        return left / self.rate if self.rate > 0 else math.inf if left else 0.0

    def line(self, metrics: Mapping[str, Any]) -> str:
        """The plain line: "sft 30/120 25% | 2.0 steps/s | 0:45 left | loss 2.31"."""
        share = 100 * self.step // max(self.total, 1)
        head = f"{self.description} {self.step}/{self.total} {share}%".strip()
        return f"{head} | {_about(self.rate, self.seconds_left, metrics)}"

    def close(self) -> None:
        """Takes the bar off the screen's bottom."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@contextlib.contextmanager
def progress(
    total: int, description: str = "", **options: Any
) -> Iterator[Progress | None]:
    """A `Progress` for the length of a `with`; of process 0 only, else None.

    with progress(1000, "sampling") as bar:
        for done, batch in enumerate(batches, 1):
            ...
            if bar:
                bar.update(done)
    """
    bar = Progress(total, description, **options) if jax.process_index() == 0 else None
    try:
        yield bar
    finally:
        if bar is not None:
            bar.close()


def _bar(file: IO[str], total: int, description: str, start: int) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as RichProgress

    bar = RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[about]}", markup=False),
        console=Console(file=file),
    )
    return bar, bar.add_task(description, total=total, completed=start, about="")


def _about(rate: float, left: float, metrics: Mapping[str, Any]) -> str:
    slow = 0 < rate < 1
    speed = f"{1 / rate:.3g} s/step" if slow else f"{rate:.3g} steps/s"
    numbers = [f"{name} {metrics[name]:.4g}" for name in SHOWN if name in metrics]
    return " | ".join([speed, f"{duration(left)} left", *numbers[:3]])


def duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> duration(45), duration(3725), duration(math.inf)
    ('0:45', '1:02:05', '?')
    """
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

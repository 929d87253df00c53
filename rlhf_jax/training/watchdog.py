"""A step that hangs ends the process and shows where it hung."""

import faulthandler
import os
import sys
import threading
import time
from typing import IO

EXIT_CODE = 1
_ASLEEP = 5.0  # seconds by which a tick is late when nothing ran at all


class Watchdog:
    """Ends the process when a step takes far longer than any before; a context.

    A lost peer or a stuck file system leaves a training process waiting for ever, at
    full cost. After max(`floor`, `factor` × the slowest step so far) without a `beat`
    the stacks of all threads go to stderr and the process exits with code 1; started
    again, it resumes. The first step compiles and saves and evaluations vary, so a
    beat may ask for `patience` instead.
    """

    def __init__(
        self,
        floor: float = 600.0,
        factor: float = 20.0,
        patience: float = 3600.0,
        *,
        file: IO[str] | None = None,
    ):
        """Args:
        floor: seconds that a step may always take; infinity switches it off.
        factor: how many times the slowest step so far.
        patience: seconds for a beat that asks for it, at least.
        file: where the stacks go; stderr when None. Must have a file descriptor.
        """
        self.floor, self.factor, self.patience = floor, factor, max(patience, floor)
        self.file = file
        self.step = 0
        self.slowest = 0.0
        self._began = self._deadline = float("inf")
        self._patient = True
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watchdog":
        if self.floor != float("inf"):
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def beat(self, step: int, *, patient: bool = False) -> None:
        """Says that work on `step` begins (and that the one before has ended)."""
        now = time.monotonic()
        if not self._patient:
            self.slowest = max(self.slowest, now - self._began)
        limit = max(self.floor, self.factor * self.slowest)
        self.step, self._patient, self._began = step, patient, now
        self._deadline = now + (max(limit, self.patience) if patient else limit)

    def rest(self) -> None:
        """Says that a step has ended and nothing is waited for until the next beat."""
        if not self._patient:
            self.slowest = max(self.slowest, time.monotonic() - self._began)
        self._patient, self._deadline = True, float("inf")

    def _watch(self) -> None:
        tick, last = min(1.0, self.floor / 4), time.monotonic()
        while not self._closed.wait(tick):
            now = time.monotonic()
            if now - last > tick + _ASLEEP:  # stopped, or the machine slept
                self._deadline += now - last
            last = now
            if now > self._deadline:
                self._end()

    def _end(self) -> None:
        file = self.file or sys.__stderr__
        spent = time.monotonic() - self._began
        print(
            f"watchdog: step {self.step} has hung for {spent:.0f} s (slowest step "
            f"before: {self.slowest:.1f} s). Started again, the run continues; where a "
            "step may take so long, raise settings.hang_seconds. The stacks of all "
            "threads follow",
            file=file,
            flush=True,
        )
        faulthandler.dump_traceback(file, all_threads=True)
        os._exit(EXIT_CODE)

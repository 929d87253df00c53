"""SIGTERM, SIGINT and SIGHUP end a run between two steps, with its state saved."""

import os
import signal
import threading
from types import FrameType

import jax
from jax.experimental import multihost_utils


class StepAbandoned(Exception):
    """Raised inside a long step by `StopSignal.check`: save the state before it."""


class StopSignal:
    """Remembers that the run was asked to stop; a context manager.

    Inside, the first SIGTERM, SIGINT or SIGHUP is noted and nothing else happens; a
    second SIGINT raises KeyboardInterrupt at once, a second of the others changes
    nothing. On leaving, the handlers that stood before are back: a notebook keeps its
    interrupt. A SIGHUP that is ignored, as under `nohup`, stays so. Outside the main
    thread Python allows no handlers, and none are set.

    With several processes the signal may reach one alone. Then jax's coordination
    service spreads SIGTERM, which the others become, and all processes stop after the
    same step.
    """

    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopSignal":
        alone = jax.process_count() == 1  # else jax's own SIGTERM handler must stay
        if threading.current_thread() is threading.main_thread():
            for number in self.signals if alone else self.signals[1:]:
                if number == signal.SIGHUP and _ignored(number):
                    continue
                handler = self._note if alone else _as_term
                self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or signal.Signals(number)

    def reached(self, step: int) -> bool:
        """Whether to stop after `step`; all processes get the same answer."""
        if jax.process_count() == 1:
            return self.received is not None
        if multihost_utils.reached_preemption_sync_point(step):
            self.received = signal.SIGTERM
        return self.received is not None

    def check(self) -> None:
        """For long steps, before they change the state: stop here if asked to.

        Raises:
          StepAbandoned: a signal has arrived. Never with several processes, where
            one alone must not leave the step.
        """
        if self.received is not None and jax.process_count() == 1:
            raise StepAbandoned


def _ignored(number: int) -> bool:
    return signal.getsignal(number) == signal.SIG_IGN


def _as_term(number: int, frame: FrameType | None) -> None:
    os.kill(os.getpid(), signal.SIGTERM)

"""Faults on demand: named points where a test may kill, fail or poison a run.

    RLHF_FAULT="ckpt.before_manifest:2:SIGKILL" rlhf-jax run experiments/quickstart.py

means: the second time the run reaches the point `ckpt.before_manifest`, it gets
SIGKILL. Several faults are separated by commas; `2+` means the second time and every
time after it. Without the variable a point costs one comparison.

Actions:
    SIGKILL, SIGTERM, SIGINT, ...   this process gets the signal
    ENOSPC, EACCES, EIO, ...        `OSError` with this errno
    nan, inf                        floating leaves of the point's value become that
    sleep=2.5                       waits for 2.5 seconds
    raise                           `RuntimeError`
"""

import collections
import contextlib
import dataclasses
import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from rlhf_jax.errors import InputError

VARIABLE = "RLHF_FAULT"

# Every point of the package and where it lies. A test compares it with the calls.
POINTS = {
    "train.step": "before a step of the loop",
    "ckpt.before_write": "in save, before any file of the step exists",
    "ckpt.before_manifest": "the files of the step exist, its manifest does not",
    "ckpt.before_commit": "the manifest exists, the step has not its final name",
    "ckpt.before_delete": "the step is committed, older ones are not yet deleted",
    "ckpt.during_delete": "an old step has lost its name, but not yet its files",
    "ckpt.before_read": "in restore, before the arrays are read",
    "tracking.line": "before a line of metrics is written",
    "candidates.before_rename": "candidates are written, their file has no final name",
    "pipeline.before_stage": "before a stage runs",
    "pipeline.before_done": "a stage has run, it is not yet marked as done",
    "label.before_commit": "in a write to the database of labels, before its commit",
    "ppo.generate": "before the responses of an iteration are sampled",
    "ppo.score": "before the responses are scored",
    "ppo.advantages": "before rewards become advantages",
    "ppo.minibatch": "before a minibatch update",
    "ppo.ptx": "before the pretraining gradient is added",
    "ppo.ema": "before the moving average is updated",
}


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault: at the `first`-th passage of `point` (and later ones), `action`."""

    point: str
    first: int
    repeats: bool
    action: str

    def due(self, passage: int) -> bool:
        """Whether it happens at the passage of this number (1 is the first)."""
        return passage >= self.first if self.repeats else passage == self.first


class _Plan:
    """Faults to come and how often each point was passed; safe between threads."""

    def __init__(self, faults: tuple[Fault, ...]):
        self.faults = faults
        self.passed: collections.Counter[str] = collections.Counter()
        self.lock = threading.Lock()

    def actions(self, point: str) -> list[str]:
        with self.lock:
            self.passed[point] += 1
            passage = self.passed[point]
        return [f.action for f in self.faults if f.point == point and f.due(passage)]


_UNREAD = object()
_plan: Any = _UNREAD  # None: no faults, every point returns at once


def fault(point: str, value: Any = None) -> Any:
    """A point where a fault may happen; nothing at all unless one was asked for.

    Args:
      point: a name in `POINTS`.
      value: a pytree that the actions "nan" and "inf" poison.

    Returns:
      `value`, poisoned where such a fault was due.
    """
    global _plan
    if _plan is None:
        return value
    if _plan is _UNREAD:
        text = os.environ.get(VARIABLE, "")
        _plan = _Plan(parse_faults(text)) if text else None
        return fault(point, value)
    if point not in POINTS:
        raise ValueError(f"fault point {point!r} is not declared in faults.POINTS")
    for action in _plan.actions(point):
        value = _happen(action, point, value)
    return value


@contextlib.contextmanager
def injected(text: str = "") -> Iterator[collections.Counter]:
    """Faults for the length of a `with`, in this process; for tests.

    Args:
      text: as in the environment variable; empty to count passages only.

    Yields:
      How often each point has been passed, a live counter.
    """
    global _plan
    before, _plan = _plan, _Plan(parse_faults(text))
    try:
        yield _plan.passed
    finally:
        _plan = before


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Reads "point:n:ACTION,point:n+:ACTION".

    >>> parse_faults("train.step:3+:nan")
    (Fault(point='train.step', first=3, repeats=True, action='nan'),)

    Raises:
      InputError: an unknown point or action, or not a number.
    """
    return tuple(_parsed(part.strip()) for part in text.split(",") if part.strip())


def _parsed(part: str) -> Fault:
    fields = part.split(":")
    if len(fields) != 3:
        raise InputError(f"{VARIABLE}: {part!r} is not point:n:ACTION")
    point, count, action = fields
    if point not in POINTS:
        names = ", ".join(sorted(POINTS))
        raise InputError(f"{VARIABLE}: no point {point!r}; there are {names}")
    number = count.removesuffix("+")
    if not number.isdecimal() or int(number) < 1:
        raise InputError(f"{VARIABLE}: {count!r} in {part!r} is not 1, 2, ... or 2+")
    if not _known(action):
        raise InputError(
            f"{VARIABLE}: no action {action!r}; there are signals (SIGKILL), errors "
            "(ENOSPC), nan, inf, sleep=SECONDS, raise"
        )
    return Fault(point, int(number), count.endswith("+"), action)


def _known(action: str) -> bool:
    if action.startswith("sleep="):
        return action[6:].replace(".", "", 1).isdecimal()
    return (
        action in {"nan", "inf", "raise"}
        or action in signal.Signals.__members__
        or action in errno.errorcode.values()
    )


def _happen(action: str, point: str, value: Any) -> Any:
    if action in {"nan", "inf"}:
        return _poisoned(value, float(action))
    if action == "raise":
        raise RuntimeError(f"fault injected at {point}")
    if action.startswith("sleep="):
        time.sleep(float(action[6:]))
    elif action in signal.Signals.__members__:
        os.kill(os.getpid(), signal.Signals[action])
    else:
        code = getattr(errno, action)
        raise OSError(code, f"{os.strerror(code)} (injected at {point})")
    return value


def _poisoned(value: Any, poison: float) -> Any:
    import jax
    import jax.numpy as jnp

    def leaf(x: Any) -> Any:
        if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
            return x
        return x * 0 + poison

    return jax.tree.map(leaf, value)

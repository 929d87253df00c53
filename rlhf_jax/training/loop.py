"""The loop that runs every stage: step, log, save; stop when asked to.

A stage gives a step. For SFT, RM and pretraining it is a batch and an update:

    def step_fn(state, step):
        return update(state, stream.batch(step))

For PPO it is a whole iteration. The loop knows neither.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from rlhf_jax.errors import NumericsError, Preempted
from rlhf_jax.faults import fault
from rlhf_jax.parallel import (
    DEFAULT_RULES,
    init_sharded,
    make_mesh,
    shardings,
)
from rlhf_jax.parallel.sharding import Rules
from rlhf_jax.training.guards import Guards
from rlhf_jax.training.signals import StepAbandoned, StopSignal
from rlhf_jax.training.watchdog import Watchdog

logger = logging.getLogger("rlhf_jax.training")

StepFunction = Callable[[Any, int], tuple[Any, Mapping[str, Any]]]


class Store(Protocol):
    """What the loop asks of `checkpoints.CheckpointStore`."""

    def save(self, step: int, state: Any, meta: dict, *, force: bool = False):
        """Keeps a state and its meta; may return before it is on disk."""

    def restore(self, template_state: Any, *, step: int | None = None):
        """The state of a step (None: the newest) and its meta."""

    def tidy(self) -> None:
        """Removes what a killed run left half done."""

    def latest_step(self) -> int | None:
        """The newest step that can be restored, None without any."""

    def wait(self) -> None:
        """Returns when all that was saved is on disk."""


class Tracker(Protocol):
    """What the loop asks of `tracking.RunTracker`."""

    def log(self, step: int, metrics: dict[str, Any]) -> None:
        """Writes down the metrics of a step."""

    def rewind(self, step: int) -> None:
        """Takes back what was logged later than `step`: those steps run again."""


def resume_or_init(
    init: Callable[..., Any],
    *args: Any,
    mesh: Mesh | None = None,
    rules: Rules = DEFAULT_RULES,
    store: Store | None = None,
    tracker: Tracker | None = None,
) -> tuple[Any, int]:
    """The state to start from: the newest usable checkpoint, else a fresh one.

    Args:
      init: pure function to the fresh state; only its shapes are used when there is
        a checkpoint.
      *args: its arguments, arrays (loaded parameters, a key).
      mesh: where the state lives; the first local device when None.
      rules: how it is cut, see `shardings`.
      store: where checkpoints are.
      tracker: its lines after the checkpoint are taken back; those steps run again.

    Returns:
      (state, steps already completed).

    Raises:
      CheckpointError: there are checkpoints, but none that may be used.
    """
    mesh = mesh or make_mesh(devices=jax.local_devices()[:1])
    latest = None
    if store is not None:
        store.tidy()
        latest = store.latest_step()
    if latest is None:
        logger.info("no checkpoint: a fresh start")
        state, step = init_sharded(init, *args, mesh=mesh, rules=rules), 0
    else:
        template = jax.eval_shape(init, *args)
        places = shardings(template, mesh, rules)
        state, meta = store.restore(jax.tree.map(_placed, template, places))
        step = int(meta["step"])
        logger.info("resumed after step %d", step)
    if tracker is not None:
        tracker.rewind(step)
    return state, step


def _placed(leaf: Any, place: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)


def training_rows(
    step_fn: StepFunction,
    state: Any,
    num_steps: int,
    *,
    start_step: int = 0,
    store: Store | None = None,
    tracker: Tracker | None = None,
    save_every: int | None = None,
    guards: Guards | None = None,
    evaluate: Callable[[Any, int], Mapping[str, Any]] | None = None,
    evaluate_every: int | None = None,
    meta: Mapping[str, Any] | None = None,
    stop: StopSignal | None = None,
    watchdog: Watchdog | None = None,
    fetch_every: int = 1,
) -> Generator[tuple[int, dict], None, Any]:
    """Runs steps `start_step` to `num_steps`; yields (steps completed, metrics).

    The host never waits for the step it has just started: metrics are fetched one
    step late, or `fetch_every` at a time. Each step is logged exactly once, before
    the checkpoint that contains it is written; so after a crash the lines up to the
    checkpoint are complete and `resume_or_init` takes back the rest.

    Args:
      step_fn: `(state, index of the step from 0) -> (state, metrics)`; may donate the
        state. A pure function of its arguments, for an exact resume.
      state: the state after `start_step` steps.
      num_steps: steps of the whole run.
      start_step: steps already completed, from `resume_or_init`.
      store: saves checkpoints; step n of a checkpoint, a log line or an error means
        n steps completed.
      tracker: logs the metrics.
      save_every: steps between checkpoints; the last state is always saved.
      guards: see `Guards`; the default one writes no files.
      evaluate: `(state, steps completed) -> metrics` added to the line of that step.
      evaluate_every: steps between evaluations; the last step is always evaluated.
      meta: what else goes into the checkpoints' meta, besides "step".
      stop: an entered `StopSignal`, for steps that call its `check`; else its own.
      watchdog: ends a process that hangs; none when None.
      fetch_every: steps whose metrics are fetched together.

    Yields:
      What was logged of each step, in order, as soon as it is fetched. Whoever stops
      asking stops the run.

    Returns:
      The state after `num_steps` steps.

    Raises:
      Preempted: SIGTERM or SIGINT came; the state is saved, the metrics are flushed.
      NumericsError: a guard stopped the run; the state is saved too.
    """
    saver = _Saver(store, meta or {}, start_step)
    log = _LateLog(tracker, guards or Guards(), fetch_every)
    step = start_step

    def given(rows: list[tuple[int, dict]]) -> Iterator[tuple[int, dict]]:
        if rows:
            watchdog.rest()  # whoever asks may take his time
        yield from rows

    def due(every: int | None) -> bool:
        return step == num_steps or bool(every and step % every == 0)

    with (
        contextlib.nullcontext(stop) if stop else StopSignal() as stop,
        watchdog or Watchdog(floor=float("inf")) as watchdog,
    ):
        try:
            while step < num_steps:
                watchdog.beat(step + 1, patient=step == start_step)
                fault("train.step")
                state, metrics = step_fn(state, step)
                step += 1
                if evaluate is not None and due(evaluate_every):
                    watchdog.beat(step, patient=True)
                    metrics = {**metrics, **evaluate(state, step)}
                yield from given(log.add(step, metrics))
                stopping = stop.reached(step)
                if stopping or due(save_every):
                    watchdog.beat(step, patient=True)
                    yield from given(log.flush())
                    watchdog.beat(step, patient=True)
                    saver.save(step, state, force=stopping or step == num_steps)
                if stopping:
                    raise Preempted(_stopped(stop, saver, step))
            if stop.received is not None:  # it came after the last step
                raise Preempted(_stopped(stop, saver, step))
        except StepAbandoned:
            log.flush()
            saver.save(step, state, force=True)
            raise Preempted(_stopped(stop, saver, step)) from None
        except NumericsError:
            log.flush(observe=False)
            saver.save(step, state, force=True)
            raise
        finally:
            saver.wait()
    return state


def run_loop(step_fn: StepFunction, state: Any, num_steps: int, **options: Any) -> Any:
    """Runs `training_rows` to its end and returns the last state."""
    return exhausted(training_rows(step_fn, state, num_steps, **options))


def exhausted(rows: Generator[Any, None, Any]) -> Any:
    """What a generator returns, when all that it yields has been passed over."""
    while True:
        try:
            next(rows)
        except StopIteration as end:
            return end.value


def _stopped(stop: StopSignal, saver: "_Saver", step: int) -> str:
    name = stop.received.name if stop.received else "stop"
    if saver.store is None:
        return f"{name} after step {step}; no checkpoint store, nothing was saved"
    return f"{name}: the state after step {step} is saved; run again to continue"


class _Saver:
    """Saves each step at most once."""

    def __init__(self, store: Store | None, meta: Mapping[str, Any], step: int):
        self.store, self.meta, self.saved = store, dict(meta), step

    def save(self, step: int, state: Any, *, force: bool) -> None:
        if self.store is not None and step != self.saved:
            self.store.save(step, state, self.meta | {"step": step}, force=force)
            self.saved = step

    def wait(self) -> None:
        if self.store is not None:
            self.store.wait()


class _LateLog:
    """Metrics on their way from the device: each step is logged once, in order."""

    def __init__(self, tracker: Tracker | None, guards: Guards, fetch_every: int):
        self.tracker, self.guards, self.fetch_every = tracker, guards, fetch_every
        self.pending: list[tuple[int, Mapping[str, Any], float]] = []
        self.since = time.perf_counter()  # when the last step that was fetched came

    def add(self, step: int, metrics: Mapping[str, Any]) -> list[tuple[int, dict]]:
        self.pending.append((step, metrics, time.perf_counter()))
        if len(self.pending) <= self.fetch_every:
            return []
        return self._fetch(len(self.pending) - 1)  # all but the one still running

    def flush(self, *, observe: bool = True) -> list[tuple[int, dict]]:
        return self._fetch(len(self.pending), observe=observe)

    def _fetch(self, count: int, *, observe: bool = True) -> list[tuple[int, dict]]:
        ready, self.pending = self.pending[:count], self.pending[count:]
        if not ready:
            return []
        values = jax.device_get([metrics for _, metrics, _ in ready])
        came = ready[-1][2]
        seconds, self.since = (came - self.since) / count, came
        rows = []
        for (step, _, _), metrics in zip(ready, values, strict=True):
            row = {name: _number(value) for name, value in metrics.items()}
            rows.append((step, {"seconds": seconds} | row))
        if self.tracker is not None:
            for step, row in rows:
                self.tracker.log(step, row)
        for step, row in rows if observe else []:  # after logging: it may raise
            self.guards.observe(step, row)
        return rows


def _number(value: Any) -> Any:
    return value.item() if np.ndim(value) == 0 and hasattr(value, "item") else value

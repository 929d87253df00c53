"""Stages that do not need each other, side by side: each in a process of its own.

Small models leave cores idle: compiling, host work and many products run on one. Two
stages with half of the cores each then end sooner than one after the other. A stage
that is alone has all cores and runs in this process.

A stage computes what it computes alone on as many cores, bit for bit. With another
number of cores the CPU's products round otherwise, as they do on another machine: for
the same bits, continue a cut run with the same `--jobs`.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from typing import IO, Any

import jax

from rlhf_jax.errors import InputError, Preempted, RunError
from rlhf_jax.pipeline.content import content_hashes
from rlhf_jax.pipeline.experiment import Experiment, references
from rlhf_jax.pipeline.finished import done_hash
from rlhf_jax.pipeline.runner import Run, begin, run_stage

__all__ = ["run_side_by_side"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_side_by_side(
    experiment: Experiment,
    workdir: str | pathlib.Path,
    command: Callable[[str], Sequence[str]],
    *,
    jobs: int,
    only: Sequence[str] | None = None,
    overrides: dict[str, Any] | None = None,
    extend: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, pathlib.Path]:
    """As `run_experiment`, up to `jobs` stages at a time.

    Args:
      experiment: what.
      workdir: where.
      command: stage name -> words of a command that runs it there.
      jobs: most stages at a time, and no more than this process has cores, which they
        share equally; on an accelerator or in a distributed run: one.
      only: names of stages to run.
      overrides: stored with the run.
      extend: as for `run_experiment`.
      say: tells a person what happens.

    Returns:
      stage name -> its directory.

    Raises:
      InputError: no positive number of jobs; else as `run_experiment`.
      Preempted: a signal came; the stages that were running have saved their state.
      RunError: a stage failed, with its exit code; the others have saved theirs.
    """
    jobs = _share(jobs, say)
    workdir = pathlib.Path(workdir)
    run = Run(experiment, workdir, overrides or {}, extend, say)
    begin(run, only)
    hashes = content_hashes(experiment)

    def done(name: str) -> bool:
        return done_hash(workdir / name) == hashes[name]

    def ready(waiting: Sequence[str], running: Container[str] = ()) -> list[str]:
        def usable(other: str) -> bool:
            return other not in running and done(other)

        return [n for n in waiting if all(map(usable, _needs(experiment, n)))]

    waiting = [n for n in experiment.stages if only is None or n in only]
    while waiting:
        # what is done is told so; what can never begin raises its error
        first = next((n for n in waiting if done(n)), None)
        able = ready(waiting)
        if first is not None or len(able) < 2 or jobs == 1:
            name = first or (able or waiting)[0]
            run_stage(run, name, hashes)
            waiting.remove(name)
        else:
            _run_together(waiting, ready, command, jobs)
    return {name: workdir / name for name in experiment.stages}


def _share(jobs: int, say: Callable[[str], None]) -> int:
    """How many stages can really run at a time; says why when fewer than asked."""
    if jobs < 1:
        raise InputError(f"--jobs {jobs}: expected 1 or more")
    if jobs > 1 and (jax.default_backend() != "cpu" or jax.process_count() > 1):
        say("--jobs: one stage at a time; an accelerator serves one process at a time")
        return 1
    if jobs > len(_cores()):
        say(f"--jobs: {len(_cores())} at a time, as many as cores")
    return min(jobs, len(_cores()))


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _needs(experiment: Experiment, name: str) -> set[str]:
    return {ref.split("/")[0] for ref in references(experiment.stages[name])}


def _run_together(
    waiting: list[str],
    ready: Callable[..., list[str]],
    command: Callable[[str], Sequence[str]],
    jobs: int,
) -> None:
    """Runs stages in children, until none runs and not even two could begin.

    Takes them out of `waiting`.
    """
    cores = _cores()
    parts = [cores[i::jobs] for i in range(jobs)]
    children: dict[str, _Child] = {}
    ended = threading.Semaphore(0)
    with _forwarded(children) as stopped, _none_left(children):
        while True:
            able = [] if stopped else ready(waiting, children)
            if not children and len(able) < 2:
                break
            for name in able[: len(parts)]:
                waiting.remove(name)
                children[name] = _Child(command(name), parts.pop(0), ended)
                if stopped:  # came while it was being started
                    children[name].process.send_signal(signal.SIGTERM)
            ended.acquire()
            name = next(n for n, child in children.items() if child.ended)
            child = children.pop(name)
            parts.append(child.cores)
            if child.code != 0 and not stopped:
                raise _failure(name, child.code)
    if stopped:
        raise Preempted(f"signal {stopped[0]}: the stages have saved their state")


@contextlib.contextmanager
def _none_left(children: dict[str, "_Child"]) -> Iterator[None]:
    """On an error, ends the children that are still running, and waits for them."""
    try:
        yield
    except BaseException:
        for child in children.values():
            child.process.send_signal(signal.SIGTERM)
        for child in children.values():
            child.process.wait()
        raise


def _failure(name: str, code: int) -> RunError:
    told = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    error = RunError(f"the stage {name!r} failed ({told}); its output is above")
    error.exit_code = 128 - code if code < 0 else code
    return error


@contextlib.contextmanager
def _forwarded(children: dict[str, "_Child"]) -> Iterator[list[int]]:
    """Signals to this process go to the children; yields those that came."""
    came: list[int] = []

    def forward(number: int, frame: Any) -> None:
        came.append(number)
        for child in list(children.values()):
            child.process.send_signal(signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():
        yield came  # signals go to the main thread
        return
    before = {number: signal.signal(number, forward) for number in _SIGNALS}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Child:
    """A running stage; its output goes on line by line.

    Attributes:
      process: the process, in a session of its own: a Ctrl-C reaches it once.
      cores: those it may use.
      ended: whether it has ended and all of its output was passed on.
    """

    def __init__(
        self, words: Sequence[str], cores: list[int], ended: threading.Semaphore
    ):
        self.cores, self.ended = cores, False
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if hasattr(os, "sched_setaffinity"):  # before it has started threads
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(self.process.pid, cores)
        self._watcher = threading.Thread(target=self._watch, args=(ended,), daemon=True)
        self._watcher.start()

    @property
    def code(self) -> int:
        """The exit code; minus the signal that killed it."""
        return self.process.wait()

    def _watch(self, ended: threading.Semaphore) -> None:
        errors = threading.Thread(
            target=_pass_on, args=(self.process.stderr, sys.stderr), daemon=True
        )
        errors.start()
        _pass_on(self.process.stdout, sys.stdout)
        errors.join()
        self.process.wait()
        self.ended = True
        ended.release()


def _pass_on(source: IO[str], target: IO[str]) -> None:
    with source:
        for line in source:
            target.write(line)
            target.flush()

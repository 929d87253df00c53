"""Stages in order, each exactly once: done ones are skipped, cut ones continue.

    <workdir>/<stage>/stage.json    what it is: kind, content hash, config, inputs
    <workdir>/<stage>/provenance.json   versions, git revision, overrides, data hashes
    <workdir>/<stage>/done.json     written last, when the stage has finished; with the
                                    time taken since the last interruption
    <workdir>/.locks/<stage>        held by the process that runs the stage

The content hash of a stage covers its config, the contents of the files it names and
the hashes of the stages it refers to. Where a directory holds another hash, it is set
aside under a name with that hash, never overwritten.
"""

import contextlib
import dataclasses
import fcntl
import json
import logging
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from rlhf_jax.errors import InputError
from rlhf_jax.faults import fault
from rlhf_jax.pipeline.content import content_hash, files_of
from rlhf_jax.pipeline.experiment import Experiment, kind_of, references
from rlhf_jax.schema import resolved_json
from rlhf_jax.stages import module_of
from rlhf_jax.storage import write_json
from rlhf_jax.tracking import RunDirectory

__all__ = ["begin", "done_hash", "run_experiment", "run_stage"]

logger = logging.getLogger("rlhf_jax.stages")


def run_experiment(
    experiment: Experiment,
    workdir: str | pathlib.Path,
    *,
    only: Sequence[str] | None = None,
    overrides: dict[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, pathlib.Path]:
    """Runs the stages of an experiment.

    Args:
      experiment: what.
      workdir: where; run again with the same one to continue.
      only: names of stages to run; what they refer to must be done already.
      overrides: stored with the run.
      say: tells a person what happens.

    Returns:
      stage name -> its directory.

    Raises:
      InputError: an unknown stage, or one that refers to something not done.
    """
    workdir = pathlib.Path(workdir)
    begin(experiment, workdir, only, overrides)
    hashes: dict[str, str] = {}
    for name, config in experiment.stages.items():
        hashes[name] = content_hash(config, hashes)
        if only is None or name in only:
            run_stage(experiment, name, hashes, workdir, overrides=overrides, say=say)
    return {name: workdir / name for name in experiment.stages}


def begin(
    experiment: Experiment,
    workdir: pathlib.Path,
    only: Sequence[str] | None,
    overrides: dict[str, Any] | None,
) -> None:
    """Makes the run directory and writes what is to be run.

    Raises:
      InputError: `only` names a stage that is not in the experiment.
    """
    if unknown := set(only or ()) - set(experiment.stages):
        raise InputError(
            f"--stages {', '.join(sorted(unknown))}: not in this experiment; "
            f"there are {', '.join(experiment.stages)}"
        )
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(
        workdir / "experiment.json",
        json.loads(resolved_json(experiment)),
        sort_keys=True,
        default=str,
    )
    write_json(workdir / "overrides.json", overrides or {}, sort_keys=True, default=str)


def run_stage(
    experiment: Experiment,
    name: str,
    hashes: dict[str, str],
    workdir: pathlib.Path,
    *,
    overrides: dict[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Runs one stage to its end, unless it is done.

    Args:
      experiment: what it is part of.
      name: of the stage.
      hashes: content hashes of the stage and of those before it.
      workdir: of the experiment.
      overrides: stored with the run.
      say: tells a person what happens.

    Raises:
      InputError: it refers to something not done, or another process runs it.
    """
    config, folder, wanted = experiment.stages[name], workdir / name, hashes[name]
    if done_hash(folder) == wanted:
        say(f"{name}: done before, skipped ({wanted[:8]})")
        return
    _require_inputs(name, config, hashes, workdir)
    with sole_runner(folder):
        _run_open_stage(experiment, name, hashes, workdir, overrides, say)


def _run_open_stage(experiment, name, hashes, workdir, overrides, say):
    config, folder, wanted = experiment.stages[name], workdir / name, hashes[name]
    unanswered = content_hash(config, hashes, answers=False)
    _set_aside_other(folder, wanted, unanswered, say)
    _take_back(folder, wanted, say)
    if done_hash(folder) == wanted:
        return
    folder.mkdir(exist_ok=True)
    description = {"kind": kind_of(config), "hash": wanted, "unanswered": unanswered}
    description["config"] = json.loads(resolved_json(config))
    description["inputs"] = {
        ref.split("/")[0]: hashes[ref.split("/")[0]] for ref in references(config)
    }
    write_json(folder / "stage.json", description, sort_keys=True, default=str)
    RunDirectory(folder).begin(
        description["config"],
        overrides=[f"{key}={value}" for key, value in (overrides or {}).items()],
        data=dict(sorted(files_of(config).items())),
        parents=description["inputs"],
    )
    say(f"{name}: {kind_of(config)} ({wanted[:8]})")
    module = module_of(kind_of(config))
    started, busy = time.monotonic(), time.process_time()
    fault("pipeline.before_stage")
    module.run(resolved(config, workdir), folder, experiment.settings)
    fault("pipeline.before_done")
    done = {
        "hash": wanted,
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(time.process_time() - busy, 1),
    }
    write_json(folder / "done.json", done, sort_keys=True, default=str)
    say(f"{name}: done in {done['seconds']:.0f} s, {done['cpu_seconds']:.0f} s of CPU")


@contextlib.contextmanager
def sole_runner(folder: pathlib.Path) -> Iterator[None]:
    """Holds a lock on a stage, so that no second process writes to it.

    The lock (`.locks/<stage>` of the run directory) goes with the process, however it
    ends; the file stays. Processes of one distributed run share a stage: the first of
    them holds it. A file system without locks goes without.

    Raises:
      InputError: another process holds it.
    """
    if jax.process_index() != 0:
        yield
        return
    path = folder.parent / ".locks" / folder.name
    path.parent.mkdir(exist_ok=True)
    with path.open("a+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            held.seek(0)
            raise InputError(
                f"{folder}: process {held.read().strip() or '(unknown)'} is running "
                "this stage; wait for it, or end it and run again"
            ) from error
        except OSError:
            logger.debug("%s: no locks on this file system", folder)
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        yield


def _require_inputs(
    name: str, config: Any, hashes: dict[str, str], workdir: pathlib.Path
) -> None:
    for reference in references(config):
        other = reference.split("/")[0]
        if other not in hashes:
            raise InputError(f"{name}: @{reference} comes later in the experiment")
        if done_hash(workdir / other) != hashes[other]:
            raise InputError(
                f"{name}: needs the stage {other!r}, which is not done (or was done "
                "under other settings); run it first"
            )


def _set_aside_other(
    folder: pathlib.Path, wanted: str, unanswered: str, say: Callable[[str], None]
) -> None:
    """Renames what was made under other settings.

    Answers of people that were added or corrected leave what they answer in place.
    """
    try:
        before = json.loads((folder / "stage.json").read_text())
        present = before["hash"]
    except (OSError, ValueError, KeyError):
        return
    if present != wanted and before.get("unanswered") != unanswered:
        aside = folder.with_name(f"{folder.name}.{present[:8]}")
        number = 1
        while aside.exists():
            number += 1
            aside = folder.with_name(f"{folder.name}.{present[:8]}.{number}")
        folder.rename(aside)
        say(f"{folder.name}: settings or inputs changed; the old run is {aside.name}")


def _take_back(folder: pathlib.Path, wanted: str, say: Callable[[str], None]) -> None:
    """Gives the stage its directory back that was set aside under these settings."""
    aside = folder.parent.glob(f"{folder.name}.{wanted[:8]}*")
    same = [path for path in sorted(aside) if _stage_hash(path) == wanted]
    if same and not folder.exists():
        best = max(same, key=lambda path: done_hash(path) == wanted)
        best.rename(folder)
        say(f"{folder.name}: settings as in {best.name}, which is taken back")


def _stage_hash(folder: pathlib.Path) -> str | None:
    """The content hash a directory was begun under, or None."""
    try:
        return json.loads((folder / "stage.json").read_text())["hash"]
    except (OSError, ValueError, KeyError):
        return None


def done_hash(folder: pathlib.Path) -> str | None:
    """The content hash a directory was finished under, or None."""
    try:
        return json.loads((folder / "done.json").read_text())["hash"]
    except (OSError, ValueError, KeyError):
        return None


def resolved(value: Any, workdir: pathlib.Path) -> Any:
    """A config with every `"@stage/path"` replaced by its path under `workdir`."""
    if isinstance(value, str):
        return str(workdir / value[1:]) if value.startswith("@") else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        changes = {name: resolved(getattr(value, name), workdir) for name in names}
        return dataclasses.replace(value, **changes)
    if isinstance(value, tuple):
        return tuple(resolved(item, workdir) for item in value)
    if isinstance(value, dict):
        return {key: resolved(item, workdir) for key, item in value.items()}
    return value

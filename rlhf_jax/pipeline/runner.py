"""Stages in order, each exactly once: done ones are skipped, cut ones continue.

    <workdir>/<stage>/stage.json    what it is: kind, content hash, config, inputs
    <workdir>/<stage>/provenance.json   versions, git revision, overrides, data hashes
    <workdir>/<stage>/manifest.json, done.json   see `pipeline.finished`
    <workdir>/.locks/<stage>        held by the process that runs the stage

A stage is known by the hashes of `pipeline.content`. Where a directory holds another
stage, it is set aside under a name with that hash (`pipeline.places`), never
overwritten; a stage that was only made longer goes on in its place.
"""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from rlhf_jax.errors import InputError
from rlhf_jax.faults import fault
from rlhf_jax.fields import leaves
from rlhf_jax.pipeline.checks import require_ready
from rlhf_jax.pipeline.content import content_hash, files_of, identity, lengths
from rlhf_jax.pipeline.experiment import Experiment, kind_of, references
from rlhf_jax.pipeline.finished import (
    damage,
    done_hash,
    mark_done,
    require_intact,
    require_result,
)
from rlhf_jax.pipeline.locks import sole_runner
from rlhf_jax.pipeline.places import settle
from rlhf_jax.schema import resolved_json
from rlhf_jax.stages import module_of
from rlhf_jax.storage import (
    clear_partials,
    decided,
    is_first_process,
    require_no_links,
    require_one_directory,
    require_same,
    together,
    write_json,
)
from rlhf_jax.tracking import RunDirectory

__all__ = ["begin", "run_experiment", "run_stage"]


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of an experiment.

    Attributes:
      experiment: what.
      workdir: where.
      overrides: of the command line; stored with the run.
      extend: stages that were made longer go on.
      say: tells a person what happens.
    """

    experiment: Experiment
    workdir: pathlib.Path
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    extend: bool = False
    say: Callable[[str], None] = print

    def stage(self, name: str) -> Any:
        """The config of a stage."""
        return self.experiment.stages[name]

    def tell(self, text: str) -> None:
        """Says it once, however many processes run."""
        if is_first_process():
            self.say(text)


def run_experiment(
    experiment: Experiment,
    workdir: str | pathlib.Path,
    *,
    only: Sequence[str] | None = None,
    overrides: dict[str, Any] | None = None,
    extend: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, pathlib.Path]:
    """Runs the stages of an experiment.

    Args:
      experiment: what.
      workdir: where; run again with the same one to continue.
      only: names of stages to run; what they refer to must be done already.
      overrides: stored with the run.
      extend: a stage whose length has grown goes on from its last checkpoint; else it
        is refused.
      say: tells a person what happens.

    Returns:
      stage name -> its directory.

    Raises:
      InputError: an unknown stage, one that refers to something not done, or anything
        that shows before the work begins (`pipeline.checks`).
    """
    run = Run(experiment, pathlib.Path(workdir), overrides or {}, extend, say)
    begin(run, only)
    hashes: dict[str, str] = {}
    for name, config in experiment.stages.items():
        hashes[name] = content_hash(config, hashes)
        require_same(hashes[name], f"{name}: config and data")
        if only is None or name in only:
            run_stage(run, name, hashes)
    return {name: run.workdir / name for name in experiment.stages}


def begin(run: Run, only: Sequence[str] | None) -> None:
    """Checks the stages, makes the run directory and writes what is to be run.

    Raises:
      InputError: `only` names a stage that is not in the experiment, a stage cannot
        begin, or the directory is not one that this run may use.
    """
    stages, workdir = run.experiment.stages, run.workdir
    if unknown := set(only or ()) - set(stages):
        raise InputError(
            f"--stages {', '.join(sorted(unknown))}: not in this experiment; "
            f"there are {', '.join(stages)}"
        )
    together(lambda: require_ready(run.experiment, only))
    workdir.mkdir(parents=True, exist_ok=True)
    require_one_directory(workdir)
    require_no_links(workdir)
    if is_first_process():
        clear_partials(workdir.glob(".*.partial"), ended=True)
    text = json.loads(resolved_json(run.experiment))
    write_json(workdir / "experiment.json", text, sort_keys=True, default=str)
    write_json(workdir / "overrides.json", run.overrides, sort_keys=True, default=str)


def run_stage(run: Run, name: str, hashes: dict[str, str]) -> None:
    """Runs one stage to its end, unless it is done.

    Args:
      run: what it is part of.
      name: of the stage.
      hashes: content hashes of the stage and of those before it.

    Raises:
      InputError: it refers to something not done or damaged, it was made longer
        without `extend`, or another process runs it.
      RunError: it has ended without its result.
    """
    config, folder, wanted = (
        run.experiment.stages[name],
        run.workdir / name,
        hashes[name],
    )
    if decided(lambda: int(_is_done(folder, wanted))):
        run.tell(
            f"{name}: done before, skipped ({wanted[:8]}){_unseen(config, folder)}"
        )
        return
    decided(lambda: _require_inputs(name, config, hashes, run.workdir))
    with sole_runner(folder):
        _run_open_stage(run, name, hashes)


def _is_done(folder: pathlib.Path, wanted: str) -> bool:
    return done_hash(folder) == wanted and damage(folder) is None


def _unseen(config: Any, folder: pathlib.Path) -> str:
    """Which settings of a stage that is done have changed without an effect."""
    try:
        before = json.loads((folder / "stage.json").read_text())["free"]
    except (OSError, ValueError, KeyError):
        return ""
    changed = [key for key, value in _free(config).items() if before.get(key) != value]
    return f"; changes nothing of it: {', '.join(changed)}" if changed else ""


def _free(config: Any) -> dict[str, Any]:
    return {key: v for key, role, v in leaves(config) if role and role.is_free}


def _run_open_stage(run: Run, name: str, hashes: dict[str, str]) -> None:
    config, folder, wanted = (
        run.experiment.stages[name],
        run.workdir / name,
        hashes[name],
    )
    known = identity(config, hashes)

    def place() -> int:
        settle(config, folder, wanted, known, extend=run.extend, say=run.tell)
        return int(_is_done(folder, wanted))

    if decided(place):
        return
    folder.mkdir(exist_ok=True)
    description = {"kind": kind_of(config), "hash": wanted, "identity": known}
    description |= {"length": lengths(config), "free": _free(config)}
    description["config"] = json.loads(resolved_json(config))
    description["inputs"] = {
        ref.split("/")[0]: hashes[ref.split("/")[0]] for ref in references(config)
    }
    write_json(folder / "stage.json", description, sort_keys=True, default=str)
    RunDirectory(folder).begin(
        description["config"],
        overrides=[f"{key}={value}" for key, value in run.overrides.items()],
        contents=files_of(config),
        parents=description["inputs"],
        override=("config",),  # the identity has been compared
    )
    run.tell(f"{name}: {kind_of(config)} ({wanted[:8]})")
    started, busy = time.monotonic(), time.process_time()
    fault("pipeline.before_stage")
    stage = module_of(kind_of(config))
    settings = run.experiment.settings
    require_result(name, stage.run(resolved(config, run.workdir), folder, settings))
    fault("pipeline.before_done")
    seconds = round(time.monotonic() - started, 1)
    cpu = round(time.process_time() - busy, 1)
    mark_done(folder, wanted, seconds=seconds, cpu_seconds=cpu)
    run.tell(f"{name}: done in {seconds:.0f} s, {cpu:.0f} s of CPU")


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
        require_intact(workdir / other)


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

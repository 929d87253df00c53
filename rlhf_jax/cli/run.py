"""`rlhf-jax run experiments/x.py`: the stages that an experiment names, in order."""

import argparse
import logging
import pathlib
import sys
import tempfile
from collections.abc import Iterable
from typing import Any

from rlhf_jax.errors import InputError

HELP = "run the stages of an experiment file, continuing where a run was cut"

_REPORTED = ("evaluate", "judge", "baselines")  # kinds that write results.json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("experiment", help="a Python file with get_config()")
    parser.add_argument("--workdir", help="run directory (default: runs/NAME)")
    parser.add_argument("--stages", help="only these, separated by commas")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the plan (parameters, memory, steps) and stop",
    )
    parser.add_argument(
        "--topology",
        metavar="NAME",
        help="with --dry-run: compile for it, or estimate: v5e:4x4, 2*v5p:4x4x4, "
        "gpu:8xH100-80GB",
    )
    parser.add_argument(
        "--price",
        type=float,
        metavar="P",
        help="with --topology: of a chip for an hour",
    )
    parser.add_argument(
        "--extend",
        action="store_true",
        help="stages that were made longer go on from their last checkpoint",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="on CPU: up to N stages that do not need each other at a time",
    )
    parser.add_argument("--no-report", action="store_true", help=argparse.SUPPRESS)
    parser.epilog = "--config.STAGE.FIELD=VALUE, any number of times, overrides"


def split_overrides(words: list[str]) -> tuple[list[str], list[str]]:
    """(the command's own words, overrides of the config), wherever they stand."""
    overrides, own, words = [], [], list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("--config."):
            own.append(word)
        elif "=" in word or not words:
            overrides.append(word)
        else:
            overrides.append(f"{word}={words.pop(0)}")
    return own, overrides


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from rlhf_jax.cli.report import make_reports
    from rlhf_jax.parallel import (
        keep_freed_memory,
        repeat_on_gpu,
        start_distributed,
    )
    from rlhf_jax.pipeline.experiment import kind_of, load_experiment
    from rlhf_jax.pipeline.runner import run_experiment
    from rlhf_jax.pipeline.side_by_side import run_side_by_side

    repeat_on_gpu()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("absl").setLevel(logging.ERROR)
    experiment, overrides = load_experiment(args.experiment, args.overrides)
    only = named_stages(args.stages, experiment.stages)
    if args.jobs < 1:
        raise InputError(f"--jobs {args.jobs}: expected 1 or more")
    if (args.topology or args.price is not None) and not args.dry_run:
        raise InputError("--topology and --price: only with --dry-run")
    if args.topology:
        print(_forecast(args, experiment, only))
        return 0
    if args.dry_run:
        from rlhf_jax.pipeline.checks import require_ready
        from rlhf_jax.pipeline.plan import describe

        print(describe(experiment))
        require_ready(experiment, only)
        return 0
    workdir = pathlib.Path(args.workdir or f"runs/{experiment.name}")
    require_writable(workdir)
    keep_freed_memory()
    start_distributed(experiment.settings.distributed)
    if args.jobs == 1:
        run_experiment(
            experiment, workdir, only=only, overrides=overrides, extend=args.extend
        )
    else:
        run_side_by_side(
            experiment,
            workdir,
            lambda name: _command(args, workdir, name),
            jobs=args.jobs,
            only=only,
            overrides=overrides,
            extend=args.extend,
        )
    reported = only is None or any(
        kind_of(experiment.stages[name]) in _REPORTED for name in only
    )
    if reported and not args.no_report:
        make_reports(workdir)
    return 0


def _forecast(args: argparse.Namespace, experiment: Any, only: list[str] | None) -> str:
    """What the stages cost on other machines; nothing here is asked for a device."""
    import jax

    from rlhf_jax.pipeline.forecast import forecast

    jax.config.update("jax_platforms", "cpu")
    # the compiler hurries: the figures move by a few percent
    jax.config.update("jax_exec_time_optimization_effort", -1.0)
    return forecast(experiment, args.topology, args.price, only)


def named_stages(text: str | None, known: Iterable[str]) -> list[str] | None:
    """The stages that `--stages` names; None: all, it was not given.

    Raises:
      InputError: an empty name, or one that the experiment does not have.
    """
    if text is None:
        return None
    names, known = [name.strip() for name in text.split(",")], list(known)
    if not all(names):
        raise InputError(f"--stages {text!r}: expected names separated by commas")
    if unknown := sorted(set(names) - set(known)):
        raise InputError(
            f"--stages {', '.join(unknown)}: not in this experiment; "
            f"there are {', '.join(known)}"
        )
    return names


def require_writable(workdir: pathlib.Path) -> None:
    """Makes the run directory.

    Raises:
      InputError: it cannot be made, is a file, or nothing can be written there.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=workdir).close()
    except FileExistsError as error:
        raise InputError(f"{workdir}: is not a directory") from error
    except OSError as error:
        raise InputError(f"{workdir}: {error.strerror or error}") from error


def _command(args: argparse.Namespace, workdir: pathlib.Path, name: str) -> list[str]:
    """The words that run one stage of the same experiment."""
    words = [
        sys.executable,
        "-m",
        "rlhf_jax.cli",
        "run",
        args.experiment,
        "--no-report",
    ]
    words += ["--extend"] if args.extend else []
    return [*words, "--workdir", str(workdir), "--stages", name, *args.overrides]

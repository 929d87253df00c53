"""`rlhf-jax run experiments/x.py`: the stages that an experiment names, in order."""

import argparse
import logging
import pathlib

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
    from rlhf_jax.parallel import keep_freed_memory, start_distributed
    from rlhf_jax.stages.experiment import kind_of, load_experiment
    from rlhf_jax.stages.pipeline import run_experiment

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("absl").setLevel(logging.ERROR)
    experiment, overrides = load_experiment(args.experiment, args.overrides)
    if args.dry_run:
        from rlhf_jax.stages.plan import describe

        print(describe(experiment))
        return 0
    keep_freed_memory()
    start_distributed(experiment.settings.distributed)
    only = args.stages.split(",") if args.stages else None
    if only is not None and not all(only):
        raise InputError("--stages: expected names separated by commas")
    workdir = pathlib.Path(args.workdir or f"runs/{experiment.name}")
    run_experiment(experiment, workdir, only=only, overrides=overrides)
    if only is None or any(
        kind_of(experiment.stages[name]) in _REPORTED for name in only
    ):
        make_reports(workdir)
    return 0

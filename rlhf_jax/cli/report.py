"""`rlhf-jax report RUNDIR`: report.html of a finished run, made again."""

import argparse
import json
import pathlib

from rlhf_jax.errors import InputError

HELP = "write report.html of a finished run and print its main table"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("rundir", help="directory of `rlhf-jax run`")


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    if not make_reports(pathlib.Path(args.rundir)):
        raise InputError(f"{args.rundir}: no evaluate stage has finished here")
    return 0


def make_reports(workdir: pathlib.Path) -> int:
    """Reports of every finished evaluation under a run directory; how many."""
    from rlhf_jax.reports.run_report import headline_table, write_run_report
    from rlhf_jax.reports.tables import print_table

    found = sorted(workdir.glob("*/results.json"))
    for path in found:
        title = f"{workdir.name}: {path.parent.name}"
        target = workdir / f"{path.parent.name}.html"
        write_run_report(path.parent, target, title=title)
        print_table(headline_table(json.loads(path.read_text())))
        print(f"report: {target}")
    return len(found)

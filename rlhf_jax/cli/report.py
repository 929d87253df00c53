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
    """Reports of every finished evaluation under a run directory; how many.

    What a changed setting set aside (`NAME.HASH`) is left as it was.
    """
    from rlhf_jax.reports.tables import print_table

    found = sorted(workdir.glob("*/results.json"))
    found = [path for path in found if "." not in path.parent.name]
    for path in found:
        results = json.loads(path.read_text())
        write, table = _writer(results)
        target = workdir / f"{path.parent.name}.html"
        write(path.parent, target, title=f"{workdir.name}: {path.parent.name}")
        print_table(table(results))
        print(f"report: {target}")
    return len(found)


def _writer(results: dict):
    """(writer of the page, main table) of what a stage's results.json holds."""
    kind = results.get("report", "evaluate")
    if kind == "judge":
        from rlhf_jax.reports.judge_report import judge_table, write_judge_report

        return write_judge_report, judge_table
    if kind == "baselines":
        from rlhf_jax.reports import baselines_report as baselines

        return baselines.write_baselines_report, baselines.accuracy_table
    from rlhf_jax.reports.run_report import headline_table, write_run_report

    return write_run_report, headline_table

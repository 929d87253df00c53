"""`rlhf-jax report RUNDIR`: report.html of a finished run, made again."""

import argparse
import pathlib
from typing import Any

from rlhf_jax.errors import InputError

HELP = "write report.html of a finished run and print its main table"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("rundir", help="directory of `rlhf-jax run`")
    parser.add_argument(
        "--figures", metavar="DIR", help="also each figure as an SVG file, in DIR"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    workdir = pathlib.Path(args.rundir)
    if not workdir.is_dir():
        raise InputError(f"{args.rundir}: no such directory, expected one of a run")
    figures = None if args.figures is None else pathlib.Path(args.figures)
    if not make_reports(workdir, figures):
        raise InputError(f"{args.rundir}: no evaluate stage has finished here")
    return 0


def make_reports(workdir: pathlib.Path, figures: pathlib.Path | None = None) -> int:
    """Reports of every finished evaluation under a run directory; how many.

    What a changed setting set aside (`NAME.HASH`) is left as it was, and so is what no
    stage wrote, such as `rlhf-jax eval --out RUNDIR/NAME`.

    Args:
      workdir: of the run.
      figures: where each figure goes as a file of its own, too; None: nowhere.

    Raises:
      InputError: results that cannot be read, or that no stage wrote; all other reports
        are written first.
    """
    from rlhf_jax.reports.tables import print_table
    from rlhf_jax.storage import require_no_links

    require_no_links(workdir)
    found = sorted(workdir.glob("*/results.json"))
    found = [
        path
        for path in found
        if "." not in path.parent.name and (path.parent / "stage.json").is_file()
    ]
    wrong = []
    for path in found:
        target = workdir / f"{path.parent.name}.html"
        try:
            _require_intact(path.parent)
            title = f"{workdir.name}: {path.parent.name}"
            table = _write(path, target, title, figures)
        except InputError as error:
            wrong.append(str(error))
            continue
        print_table(table)
        print(f"report: {target}")
    if wrong:
        raise InputError("; ".join(wrong))
    return len(found)


def _require_intact(folder: pathlib.Path) -> None:
    """Refuses results that have changed since their stage was done, or the metrics of
    the stages beside it that they show.

    Raises:
      InputError: names the file.
    """
    from rlhf_jax.pipeline.finished import DONE, require_intact
    from rlhf_jax.reports.reading import read_results

    if not (folder / DONE).exists():
        return
    require_intact(folder)
    results = read_results(folder)
    for kind in ("stages", "runs"):
        for other in map(pathlib.Path, results.get(kind, {}).values()):
            if (other / DONE).exists():
                require_intact(other, lambda name: name.endswith("metrics.jsonl"))


def _write(
    path: pathlib.Path,
    target: pathlib.Path,
    title: str,
    figures: pathlib.Path | None = None,
):
    """Writes the page of a results.json, and its figures; its main table.

    Raises:
      InputError: it is damaged, or holds something else.
    """
    from rlhf_jax.reports import Section, write_figures, write_report
    from rlhf_jax.reports.reading import read_results, rows_table

    results = read_results(path.parent)
    kind = results.get("report", "evaluate") if isinstance(results, dict) else None
    sections, table = _page(kind, path)
    try:
        main = table(results)
        page = list(sections(results, path.parent))
        if (rows := rows_table(target.parent)) is not None:
            page.append(Section("Rows", [rows]))
        write_report(target, title, page)
        if figures is not None:
            for file in write_figures(figures, path.parent.name, page):
                print(f"figure: {file}")
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # the pages read deep into the results: what is not there shows on the way
        what = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{path}: expected the results of a stage of kind {kind!r}: {what}"
        ) from error
    return main


def _page(kind: Any, path: pathlib.Path):
    """(sections of the page, main table) of a kind of results."""
    from rlhf_jax.reports import baselines_report, judge_report, run_report

    pages = {
        "evaluate": (run_report.sections, run_report.headline_table),
        "judge": (judge_report.sections, judge_report.judge_table),
        "baselines": (baselines_report.sections, baselines_report.accuracy_table),
    }
    if kind not in pages:
        raise InputError(
            f"{path}: expected the results of an evaluate, judge or baselines stage"
        )
    return pages[kind]

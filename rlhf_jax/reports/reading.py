"""What a stage has left for its report: results, samples, intervals."""

import json
import pathlib

import numpy as np

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.reward_models.overoptimization import FrontierPoint
from rlhf_jax.evaluation.statistics.intervals import Interval
from rlhf_jax.reports.document import side_by_side
from rlhf_jax.reports.tables import Table


def read_results(folder: pathlib.Path) -> dict:
    """`results.json` of a stage, its other stages found where the run lies now.

    Those of the same run are named relative to the results. Of older results, which
    name them as they were, a neighbour of `folder` with that name comes first: a run
    that was copied shows its own curves.

    Raises:
      InputError: there are no results.
    """
    try:
        results = json.loads((folder / "results.json").read_text())
    except OSError as error:
        raise InputError(f"{folder}/results.json: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{folder}/results.json: expected JSON: {error}") from error
    for kind in ("stages", "runs") if isinstance(results, dict) else ():
        for name, path in results.get(kind, {}).items():
            results[kind][name] = str(_found(folder, pathlib.Path(path)))
    return results


def _found(folder: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
    if path.parts[:1] == ("..",) and len(path.parts) == 2:
        return folder.parent / path.name
    neighbour = folder.parent / path.name
    return neighbour if neighbour.is_dir() or not path.is_dir() else path


def rows_table(run: pathlib.Path) -> Table | None:
    """What became of the rows of every stage of a run; None where none has told.

    Args:
      run: directory of the run; its stages keep `rows.json`.
    """
    rows = []
    for file in sorted(run.glob("*/rows.json")):
        if "." in file.parent.name:  # set aside
            continue
        for account in json.loads(file.read_text()):
            lost = [
                ", ".join(
                    f"{count} {why}" for why, count in account.get(kind, {}).items()
                )
                for kind in ("dropped", "cut", "limited")
            ]
            name = f"{file.parent.name}: {account['name']}"
            rows.append([name, str(account["read"]), str(account["used"]), *lost])
    headers = ["stage: rows", "read", "used", "dropped", "cut", "left out"]
    return Table(headers, rows, "What became of the rows") if rows else None


def read_samples(
    folder: pathlib.Path,
    names: list[str],
    most: int,
    fields: tuple[str, ...] = ("responses",),
) -> list[dict]:
    """The first rows of a stage's `samples.jsonl`.

    Args:
      folder: the stage's directory.
      names: policies that every row must have in each of the fields.
      most: at most so many rows.
      fields: each holds policy -> something.

    Raises:
      InputError: no such file, or a line that is not such a row.
    """
    path = folder / "samples.jsonl"
    rows: list[dict] = []
    try:
        with path.open(encoding="utf-8") as file:
            for line, _ in zip(file, range(most), strict=False):
                row = json.loads(line)
                _ = row["prompt"], [row[key][name] for key in fields for name in names]
                rows.append(row)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{path}:{len(rows) + 1}: expected a prompt and the {' and '.join(fields)} "
            f"of {', '.join(names)}"
        ) from error
    return rows


def samples_beside(
    results: dict,
    folder: pathlib.Path,
    most: int,
    *,
    score: str = "",
    caption: str = "",
) -> str:
    """What the policies of a results file wrote, side by side, as HTML.

    Args:
      results: with the `names` of the policies.
      folder: the stage's directory.
      most: at most so many prompts.
      score: a field of each row, policy -> number, shown in brackets; "": none.
      caption: of the table.
    """
    names, rows = results["names"], []
    fields = ("responses", score) if score else ("responses",)
    for row in read_samples(folder, names, most, fields):
        marks = {n: f"\n[{row[score][n]:.2f}]" if score else "" for n in names}
        cells = [row["responses"][name] + marks[name] for name in names]
        rows.append([row["prompt"], *cells])
    return side_by_side(["prompt", *names], rows, caption)


def frontier_of(results: dict) -> dict[str, list[FrontierPoint]]:
    """run -> its points of reward against KL; runs without a point are left out."""
    return {
        name: [FrontierPoint(**point) for point in points]
        for name, points in results["frontier"].items()
        if points
    }


def cell_text(cell: dict, scale: float = 1.0, digits: int = 3) -> str:
    """An interval of a results file in words, in another unit where asked."""
    return read_interval(cell).scaled(scale).text(digits)


def read_interval(cell: dict) -> Interval:
    """An interval as a results file holds it; an end that is None is infinite."""
    items = cell.get("items", cell.get("num_items", 0))
    ends = [
        infinite if cell[key] is None else cell[key]
        for key, infinite in (("low", -np.inf), ("high", np.inf))
    ]
    return Interval(cell["estimate"], *ends, items, cell.get("num_clusters", items))

"""What `rlhf-jax eval` leaves behind: JSON for programs, pages for people."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence

from rlhf_jax.evaluation.statistics.intervals import Interval
from rlhf_jax.evaluation.statistics.scores import Score
from rlhf_jax.evaluation.statistics.tables import ResultTable
from rlhf_jax.reports.document import Section, write_report
from rlhf_jax.reports.figures import alignment_tax_bars
from rlhf_jax.reports.tables import Table, number_text, results_as_table, table_markdown
from rlhf_jax.storage import replacing, write_json, write_text


def interval_rows(
    columns: Mapping[str, Mapping[str, Interval]],
    caption: str = "",
    *,
    digits: int | None = None,
) -> Table:
    """column -> row name -> interval as a table, e.g. policy -> its summary."""
    names = list(dict.fromkeys(n for cells in columns.values() for n in cells))
    rows = [
        [
            name,
            *(
                number_text(cells[name], digits, True) if name in cells else ""
                for cells in columns.values()
            ),
        ]
        for name in names
    ]
    return Table(["", *columns], rows, caption)


def tax_differences(
    results: ResultTable,
) -> dict[str, dict[str, dict[str, Interval]]]:
    """metric -> task and condition -> policy -> paired difference, more is better.

    One group per metric, because an axis has one unit.
    """
    found: dict[str, dict[str, dict[str, Interval]]] = {}
    for row in results.rows:
        if row.higher_is_better is None or not row.differences:
            continue
        label = " ".join(part for part in (row.task, row.condition) if part)
        sign = 1.0 if row.higher_is_better else -1.0
        found.setdefault(row.metric, {})[label] = {
            name: interval.scaled(sign) for name, interval in row.differences.items()
        }
    return found


def write_results(
    folder: str | os.PathLike,
    results: ResultTable,
    *,
    scores: Mapping[str, Sequence[Score]] | None = None,
    sections: Sequence[Section] = (),
) -> dict[str, pathlib.Path]:
    """Writes `results.json`, `results.md`, `report.html` and, with scores,
    `items.jsonl`.

    Args:
      folder: is made.
      results: the table.
      scores: policy -> scores; their items become one line each.
      sections: further sections of the page.

    Returns:
      what -> path.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    table = results_as_table(results)
    paths = {name: folder / name for name in ("results.json", "results.md")}
    write_json(paths["results.json"], results.document(), indent=1, allow_nan=False)
    write_text(paths["results.md"], table_markdown(table))
    parts: list[Table | str] = [table]
    differences = tax_differences(results)
    for metric, rows in differences.items():
        title = f"{metric}: difference to {results.baseline}"
        parts.append(alignment_tax_bars(rows, title=title))
    if differences:
        parts.append(
            f"Δ: paired difference to {results.baseline} over the same items; coloured "
            "where its 95 % interval leaves 0."
        )
    if scores is not None:
        paths["items.jsonl"] = folder / "items.jsonl"
        write_items(paths["items.jsonl"], scores)
    paths["report.html"] = write_report(
        folder / "report.html", results.title, [Section("Results", parts), *sections]
    )
    return paths


def write_items(path: pathlib.Path, scores: Mapping[str, Sequence[Score]]) -> None:
    """One JSON line per policy, metric and item: its value and what was written."""
    with replacing(path) as file:
        for policy, some in scores.items():
            for score in some:
                for n, (item, value) in enumerate(
                    zip(score.items, score.values.tolist(), strict=True)
                ):
                    row = {
                        "policy": policy,
                        "task": score.task,
                        "metric": score.metric,
                        "condition": score.condition,
                        "item": item,
                        "value": value,
                    }
                    if len(score.outputs):
                        row["output"] = score.outputs[n]
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")

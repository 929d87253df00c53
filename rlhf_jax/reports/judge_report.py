"""The report of a `judge` stage: quality, its price, and reward against √KL."""

import pathlib
from collections.abc import Iterator
from typing import Any

from rlhf_jax.evaluation.reward_models.overoptimization import FrontierPoint
from rlhf_jax.evaluation.statistics.intervals import Interval
from rlhf_jax.reports.document import Section, side_by_side, write_report
from rlhf_jax.reports.figures import kl_reward_frontier
from rlhf_jax.reports.reading import read_interval, read_results, read_samples
from rlhf_jax.reports.run_report import learning_sections
from rlhf_jax.reports.tables import Table


def write_judge_report(
    folder: str | pathlib.Path, target: str | pathlib.Path, *, title: str
) -> pathlib.Path:
    """Writes the HTML report of a directory with `results.json` and `samples.jsonl`."""
    folder = pathlib.Path(folder)
    results = read_results(folder)
    return write_report(target, title, list(_sections(results, folder)))


def judge_table(results: dict) -> Table:
    """One row per policy: judge, reward, likelihood, length, repetition."""
    names = results["names"]
    labels = [f"{row['task']}: {row['metric']}" for row in results["rows"]]
    body = []
    for name in names:
        cells = [_text(row["cells"][name]) for row in results["rows"]]
        body.append([name, *cells, f"{results['distinct_bigrams'][name]:.3f}"])
    caption = (
        f"Held-out prompts; 95 % intervals. The judge is right on "
        f"{_text(results['judge']['accuracy'])} of sentences it was not trained on"
    )
    return Table(["policy", *labels, "distinct 2-grams"], body, caption)


def difference_table(results: dict) -> Table:
    """The paired difference of every policy to the first; coloured where the interval
    leaves 0; likelihood also in percent."""
    first = results["names"][0]
    names = results["names"][1:]
    labels = [f"{row['task']}: {row['metric']}" for row in results["rows"]]
    body, marks = [], {}
    for i, name in enumerate(names):
        cells = [name]
        for j, row in enumerate(results["rows"], 1):
            interval = read_interval(row["differences"][name])
            text = interval.text()
            if row["task"] == "held-out text":
                share = interval.estimate / row["cells"][first]["estimate"]
                text += f" ({100 * share:+.1f} %)"
            wanted = row["higher_is_better"]
            if wanted is not None and interval.excludes(0.0):
                rises = interval.estimate > 0
                marks[i, j] = "better" if rises == wanted else "worse"
            cells.append(text)
        body.append(cells)
    caption = f"Paired difference to {first} on the same prompts, 95 % interval"
    return Table(["policy", *labels], body, caption, marks)


def _sections(results: dict, folder: pathlib.Path) -> Iterator[Section]:
    yield Section("In one table", [judge_table(results), difference_table(results)])
    yield Section("Reward against KL", [*_frontier(results)])
    yield Section("Learning curves", [*learning_sections(results)])
    yield Section("Samples before and after", [_samples(results, folder)])


def _frontier(results: dict) -> Iterator[str]:
    runs = {
        name: [FrontierPoint(**point) for point in points]
        for name, points in results["frontier"].items()
        if points
    }
    if runs:
        quality = results["quality"]
        yield (
            f"Gold: the judge's mean probability of {quality!r}. Proxy: the reward "
            "model that the policies were trained against."
        )
        yield kl_reward_frontier(
            {name: [_only(p, "gold") for p in points] for name, points in runs.items()},
            title=f"Judge's probability of {quality} against √KL",
        )
        yield kl_reward_frontier(
            {
                name: [_only(p, "proxy") for p in points]
                for name, points in runs.items()
            },
            title="Reward-model score against √KL",
        )


def _only(point: FrontierPoint, which: str) -> FrontierPoint:
    """The point with one reward alone: the two have different units."""
    nan = float("nan")
    gold = point.gold if which == "gold" else nan
    proxy = point.proxy if which == "proxy" else nan
    return FrontierPoint(point.name, point.kl, proxy, gold)


def _samples(results: dict, folder: pathlib.Path, most: int = 20) -> str:
    names, rows = results["names"], []
    for row in read_samples(folder, names, most, fields=("responses", "judge")):
        cells = [
            f"{row['responses'][name]}\n[{row['judge'][name]:.2f}]" for name in names
        ]
        rows.append([row["prompt"], *cells])
    caption = "In brackets: the judge's probability"
    return side_by_side(["prompt", *results["names"]], rows, caption)


def _text(cell: dict[str, Any]) -> str:
    interval: Interval = read_interval(cell)
    return interval.text()

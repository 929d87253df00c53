"""The report of a `judge` stage: quality, its price, and reward against √KL."""

import dataclasses
import pathlib
from collections.abc import Iterator

from rlhf_jax.evaluation.reward_models.overoptimization import FrontierPoint
from rlhf_jax.reports.document import Section
from rlhf_jax.reports.figures import kl_reward_frontier
from rlhf_jax.reports.reading import (
    cell_text,
    frontier_of,
    read_interval,
    samples_beside,
)
from rlhf_jax.reports.run_report import learning_sections
from rlhf_jax.reports.tables import Table


def judge_table(results: dict) -> Table:
    """One row per policy: judge, reward, likelihood, length, repetition."""
    names = results["names"]
    labels = [f"{row['task']}: {row['metric']}" for row in results["rows"]]
    body = []
    for name in names:
        cells = [cell_text(row["cells"][name]) for row in results["rows"]]
        body.append([name, *cells, f"{results['distinct_bigrams'][name]:.3f}"])
    caption = (
        f"Held-out prompts; 95 % intervals. The judge is right on "
        f"{cell_text(results['judge']['accuracy'])} of sentences it was not trained on"
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


def sections(results: dict, folder: pathlib.Path) -> Iterator[Section]:
    """The page of a `judge` stage."""
    yield Section("In one table", [judge_table(results), difference_table(results)])
    yield Section("Reward against KL", [*_frontier(results)])
    yield Section("Learning curves", [*learning_sections(results)])
    caption = "In brackets: the judge's probability"
    samples = samples_beside(results, folder, 20, score="judge", caption=caption)
    yield Section("Samples before and after", [samples])


def _frontier(results: dict) -> Iterator[str]:
    if runs := frontier_of(results):
        quality = results["quality"]
        yield (
            f"Gold: the judge's mean probability of {quality!r}. Proxy: the reward "
            "model that the policies were trained against."
        )
        titles = {
            "gold": f"Judge's probability of {quality} against √KL",
            "proxy": "Reward-model score against √KL",
        }
        for kind, title in titles.items():
            some = {n: [_only(p, kind) for p in points] for n, points in runs.items()}
            yield kl_reward_frontier(some, title=title)


def _only(point: FrontierPoint, which: str) -> FrontierPoint:
    """The point with one reward alone: the two have different units."""
    other = {"gold": "proxy", "proxy": "gold"}[which]
    return dataclasses.replace(point, **{other: float("nan")})

"""The report of a whole run: what its stages learned, and what alignment cost.

Read from `results.json`, `samples.jsonl` and the stages' `metrics.jsonl`, so it can be
made again at any time (`rlhf-jax report RUNDIR`).
"""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.reward_models.accuracy import Calibration
from rlhf_jax.evaluation.reward_models.overoptimization import Fit, fit_curve
from rlhf_jax.evaluation.statistics.intervals import Interval
from rlhf_jax.reports.document import Section
from rlhf_jax.reports.figures import (
    alignment_tax_bars,
    kl_reward_frontier,
    learning_curves,
    reliability_diagram,
    reward_histograms,
    win_rate_bars,
)
from rlhf_jax.reports.reading import (
    cell_text,
    frontier_of,
    read_interval,
    samples_beside,
)
from rlhf_jax.reports.tables import Table
from rlhf_jax.tracking import read_metrics

# metric -> (title, unit) of the curves of PPO
PPO_CURVES = {
    "score": ("Reward-model score", "score"),
    "kl_exact": ("KL(policy ‖ reference)", "nats per response"),
    "length": ("Length of responses", "tokens"),
    "entropy": ("Entropy", "nats per token"),
    "value_explained_variance": ("Explained variance of the value function", "share"),
    "ptx_nats_per_token": ("Loss on the pretraining mix", "nats per token"),
}


def headline_table(results: dict) -> Table:
    """The run in one table: one row per policy.

    Win rates are against the baseline, a tie counting half, with 95 % intervals.
    """
    judges = list(results["preference"])
    headers = ["policy", "gold utility", *[f"win % by {j}" for j in judges]]
    headers += ["held-out text nats/token", "skills accuracy %", "words"]
    rows = []
    for name in results["names"]:
        row = [name, cell_text(results["gold"][name]["utility"])]
        for judge in judges:
            cell = results["preference"][judge].get(name)
            row.append(cell_text(cell["win_rate"], 100, 1) if cell else "baseline")
        row.append(cell_text(_cell(results, "held-out text", "nats per token", name)))
        row.append(f"{100 * skill_accuracy(results, name):.1f}")
        row.append(cell_text(results["gold"][name]["words"], digits=1))
        rows.append(row)
    caption = f"Against {results['baseline']}; 95 % intervals in brackets"
    return Table(headers, rows, caption)


def skill_accuracy(results: dict, name: str) -> float:
    """Mean accuracy over the held-out skills of pretraining, in [0, 1]."""
    found = [
        row["cells"][name]["estimate"]
        for row in results["alignment_tax"]["rows"]
        if row["task"].startswith("skill") and row["metric"] == "accuracy"
    ]
    return float(np.mean(found)) if found else float("nan")


def _cell(results: dict, task: str, metric: str, name: str) -> dict:
    for row in results["alignment_tax"]["rows"]:
        if (row["task"], row["metric"]) == (task, metric):
            return row["cells"][name]
    raise InputError(f"results.json: no row {task} {metric}")


def sections(results: dict, folder: pathlib.Path) -> Iterator[Section]:
    """The page of an `evaluate` stage."""
    yield Section("In one table", [headline_table(results)])
    yield Section("Preference", [*_win_rates(results)])
    yield Section("Learning curves", [*learning_sections(results)])
    if reports := [*_reward_models(results)]:
        yield Section("Reward model", reports)
    if results["frontier"]:
        yield Section("Reward against KL", [*_frontier(results)])
    yield Section("Alignment tax", [*_tax(results)])
    yield Section("Gold utility by criterion", [_criteria(results)])
    yield Section("Samples side by side", [samples_beside(results, folder, 24)])


def _win_rates(results: dict) -> Iterator[str]:
    for judge, cells in results["preference"].items():
        rates = {}
        for name, cell in cells.items():
            rates[name] = read_interval(cell["win_rate"])
            controlled = read_interval(cell["length_controlled"])
            rates[f"{name}, length-controlled"] = controlled
        yield win_rate_bars(
            rates, title=f"Win rate against {results['baseline']}, by {judge}"
        )


def _losses(folder: str) -> dict[str, tuple[list, list]]:
    """The curves of a stage; of an ensemble, one for each member."""
    members = sorted(pathlib.Path(folder).glob("seed_*/metrics.jsonl"))
    if members:
        return {path.parent.name: _series(path.parent, "loss") for path in members}
    series = {"training": _series(folder, "loss")}
    held_out = _series(folder, "valid/nats_per_token")
    if held_out[0]:
        series["held out"] = held_out
    return series


def _series(folder: str | pathlib.Path, metric: str) -> tuple[list, list]:
    rows = [
        row
        for row in read_metrics(pathlib.Path(folder) / "metrics.jsonl")
        if metric in row
    ]
    return [row["step"] for row in rows], [row[metric] for row in rows]


def learning_sections(results: dict) -> Iterator[str]:
    """Plots of what the stages and the PPO runs of a results file logged."""
    for name, folder in results["stages"].items():
        yield learning_curves(_losses(folder), title=f"Loss: {name}", y="nats")
    for metric, (title, unit) in PPO_CURVES.items():
        series = {name: _series(path, metric) for name, path in results["runs"].items()}
        series = {name: values for name, values in series.items() if values[0]}
        if series:
            yield learning_curves(series, title=title, x="iteration", y=unit)


def _reward_models(results: dict) -> Iterator[Any]:
    for name, folder in results["stages"].items():
        path = pathlib.Path(folder) / "report.json"
        if not path.is_file():
            continue
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path}: expected JSON: {error}") from error
        rows = []
        for labelers, entry in report.items():
            if not isinstance(entry, dict):
                continue
            ends = (
                100 * entry[k] for k in ("accuracy", "accuracy_low", "accuracy_high")
            )
            rows.append(
                [
                    labelers,
                    "{:.1f} [{:.1f}, {:.1f}]".format(*ends),
                    f"{entry['loss']:.3f}",
                    f"{entry['calibration_error']:.3f}",
                    f"{entry['length']['spearman']:.2f}",
                ]
            )
            bins = {k: np.array(v) for k, v in entry["reliability"].items()}
            yield reliability_diagram(
                Calibration(
                    **bins, error=entry["calibration_error"], loss=entry["loss"]
                ),
                title=f"Calibration of {name}: {labelers} labelers",
            )
        headers = ["labelers", "accuracy %", "loss (nats)", "calibration error"]
        yield Table([*headers, "length correlation"], rows, name)
    if "proxy" in results:
        values = {n: np.array(p["values"]) for n, p in results["proxy"].items()}
        yield reward_histograms(values, title="Reward-model scores of the policies")


def _frontier(results: dict) -> Iterator[Any]:
    runs = frontier_of(results)
    fits: dict[str, Fit] = {}
    for name, points in runs.items():
        start = min(points, key=lambda point: point.kl)
        rising = [(p.distance, p.gold - start.gold) for p in points if p.distance > 0]
        if len({d for d, _ in rising}) >= 3 and start.kl < 0.5:
            kind = "best-of-n" if name.startswith("best") else "rl"
            fits[name] = fit_curve(kind, *zip(*rising, strict=True))
    yield kl_reward_frontier(runs)
    rows = [
        [n, f.kind, f"{f.alpha:.3f}", f"{f.beta:.3f}", f"{f.peak_distance:.2f}"]
        for n, f in fits.items()
    ]
    if rows:
        headers = ["run", "form", "α", "β", "√KL where gold peaks"]
        yield Table(headers, rows, "Fits of the gold utility (Gao et al. 2022)")


def _tax(results: dict) -> Iterator[Any]:
    tax = results["alignment_tax"]
    differences: dict[str, dict[str, Interval]] = {}
    rows = []
    for row in tax["rows"]:
        label = f"{row['task']} {row['metric']} {row['condition']}".strip()
        cells = [
            cell_text(row["cells"][n]) if n in row["cells"] else ""
            for n in results["names"]
        ]
        rows.append([label, *cells])
        if row["task"].startswith("skill") and row["metric"] == "accuracy":
            differences[label] = {
                name: read_interval(cell) for name, cell in row["differences"].items()
            }
    yield alignment_tax_bars(
        differences, title=f"Held-out skills: difference to {tax['baseline']}"
    )
    yield Table(["metric", *results["names"]], rows, "All suites")


def _criteria(results: dict) -> Table:
    names = results["names"]
    metrics = list(results["gold"][names[0]])
    rows = [[m, *[cell_text(results["gold"][n][m]) for n in names]] for m in metrics]
    return Table(["criterion", *names], rows, "Mean over held-out prompts")

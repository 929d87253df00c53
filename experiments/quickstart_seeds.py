"""The demo's claims over several seeds: one table of finished quickstart runs.

    make demo-seeds                       three runs, then this table
    python experiments/quickstart_seeds.py runs/quickstart-*

A run's seed moves everything but the world: initial weights, order of the data,
sampling, who ranks what. Intervals within a run are over prompts; the last column is
the mean over runs and its standard error. Below the table, the win rates of all runs'
samples together: 95 % intervals, prompts resampled with all their samples.
"""

import json
import pathlib
import statistics
import sys

from rlhf_jax.stages import evaluate
from rlhf_jax.stages.inputs import read_prompts

JUDGES = ("gold utility", "simulated:held_out")


def figures(folder: pathlib.Path) -> dict[str, tuple[float, float, float]]:
    """Row name -> (estimate, low, high) of one run."""
    results = json.loads((folder / "report" / "results.json").read_text())
    reward = json.loads((folder / "reward" / "report.json").read_text())
    rows = {}
    for name, table in results["gold"].items():
        rows[f"gold utility of {name}"] = _triple(table["utility"])
    for judge in JUDGES:
        for name, table in results["preference"][judge].items():
            rows[f"{name} against {results['baseline']}, {judge}"] = _triple(
                table["win_rate"]
            )
    for name, entry in reward.items():
        if isinstance(entry, dict):
            keys = ("accuracy", "accuracy_low", "accuracy_high")
            rows[f"reward model, {name}"] = tuple(entry[key] for key in keys)
    return rows


def _triple(entry: dict) -> tuple[float, float, float]:
    return entry["estimate"], entry["low"], entry["high"]


def pooled(folders: list[pathlib.Path]) -> dict[str, tuple[float, float, float]]:
    """Row name -> (estimate, low, high) of the samples of all runs together."""
    prompts, samples = [], {}
    config = json.loads((folders[0] / "report" / "config.json").read_text())
    for folder in folders:
        by_id = {p.id: p for p in read_prompts((f"{folder}/world/prompts.test.jsonl",))}
        for line in (folder / "report" / "samples.jsonl").read_text().splitlines():
            row = json.loads(line)
            prompts.append(by_id[row["id"]])
            for name, response in row["responses"].items():
                samples.setdefault(name, []).append(response)
    judged = evaluate.preference(
        prompts,
        samples,
        baseline=config["baseline"],
        labelers=config["labelers"],
        world_seed=config["world_seed"],
    )
    return {
        f"{name} against {config['baseline']}, {judge}": _triple(table["win_rate"])
        for judge, tables in judged.items()
        for name, table in tables.items()
    }


def main(folders: list[str]) -> None:
    """Prints the table as Markdown."""
    runs = [figures(pathlib.Path(folder)) for folder in folders]
    print(f"| | {' | '.join(folders)} | mean ± standard error |")
    print("|---" * (len(runs) + 2) + "|")
    for name in runs[0]:
        cells = [f"{e:.3f} [{low:.3f}, {high:.3f}]" for e, low, high in
                 (run[name] for run in runs)]  # fmt: skip
        values = [run[name][0] for run in runs]
        spread = statistics.stdev(values) / len(values) ** 0.5 if runs[1:] else 0.0
        mean = f"{statistics.fmean(values):.3f} ± {spread:.3f}"
        print(f"| {name} | {' | '.join(cells)} | {mean} |")
    print("\n| all runs together | |\n|---|---|")
    rates = pooled([pathlib.Path(folder) for folder in folders])
    for name, (estimate, low, high) in rates.items():
        print(f"| {name} | {estimate:.3f} [{low:.3f}, {high:.3f}] |")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: quickstart_seeds.py RUNDIR...")
    main(sys.argv[1:])

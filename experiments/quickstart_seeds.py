"""The demo's claims over several seeds: one table of finished quickstart runs.

    make demo-seeds                       three runs, then this table
    python experiments/quickstart_seeds.py runs/quickstart-*

A run's seed moves everything but the world: initial weights, order of the data,
sampling, who ranks what. Intervals within a run are over prompts; the last column is
the mean over runs and its standard error. Below the table, all runs' samples together:
win rates against SFT and against PPO's start, and what was gained over that start;
95 % intervals, prompts resampled with all their samples.
"""

import json
import pathlib
import statistics
import sys

import numpy as np

from rlhf_jax.data import Prompt
from rlhf_jax.data.inputs import read_prompts
from rlhf_jax.evaluation.statistics.intervals import paired_interval
from rlhf_jax.simulation.utility import utility
from rlhf_jax.stages import evaluate

JUDGES = ("gold utility", "simulated:held_out")
START = "PPO init"  # what PPO and PPO-ptx start from, and their reference


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


def read_samples(
    folders: list[pathlib.Path],
) -> tuple[list[Prompt], dict[str, list[str]]]:
    """The prompts of all runs one after the other, and each policy's responses."""
    prompts, samples = [], {}
    for folder in folders:
        by_id = {p.id: p for p in read_prompts((f"{folder}/world/prompts.test.jsonl",))}
        for line in (folder / "report" / "samples.jsonl").read_text().splitlines():
            row = json.loads(line)
            prompts.append(by_id[row["id"]])
            for name, response in row["responses"].items():
                samples.setdefault(name, []).append(response)
    return prompts, samples


def pooled(folders: list[pathlib.Path]) -> dict[str, tuple[float, float, float]]:
    """Row name -> (estimate, low, high) of the samples of all runs together.

    Win rates against the baseline; of what came after PPO's start, also against that,
    with what they gained in gold utility, pair by pair.
    """
    config = json.loads((folders[0] / "report" / "config.json").read_text())
    prompts, samples = read_samples(folders)
    rows = win_rates(prompts, samples, config["baseline"], config)
    if START not in samples:
        return rows
    names = list(samples)
    trained = {name: samples[name] for name in names[names.index(START) :]}
    rows |= win_rates(prompts, trained, START, config)
    before = gold_utilities(prompts, trained.pop(START))
    for name, responses in trained.items():
        after = gold_utilities(prompts, responses)
        found = paired_interval(after, before, [p.id for p in prompts])
        rows[f"gold utility of {name} over {START}"] = (
            found.estimate,
            found.low,
            found.high,
        )
    return rows


def win_rates(prompts, samples, baseline: str, config: dict) -> dict:
    """Row name -> (estimate, low, high), by gold utility and by labelers."""
    judged = evaluate.preference(
        prompts,
        samples,
        baseline=baseline,
        labelers=config["labelers"],
        world_seed=config["world_seed"],
    )
    return {
        f"{name} against {baseline}, {judge}": _triple(table["win_rate"])
        for judge, tables in judged.items()
        for name, table in tables.items()
    }


def gold_utilities(prompts: list[Prompt], responses: list[str]) -> np.ndarray:
    """[N], the gold utility of each response."""
    pairs = zip(prompts, responses, strict=True)
    return np.array([utility(prompt, text).total for prompt, text in pairs])


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

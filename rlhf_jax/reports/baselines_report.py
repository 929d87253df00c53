"""The report of a `baselines` stage: a reward model beside simple baselines, and what
the preparation of the data dropped and why."""

import pathlib
from collections.abc import Iterator
from typing import Any

from rlhf_jax.reports.document import Section
from rlhf_jax.reports.figures import alignment_tax_bars
from rlhf_jax.reports.reading import cell_text, read_interval, samples_beside
from rlhf_jax.reports.run_report import learning_sections
from rlhf_jax.reports.tables import Table


def accuracy_table(results: dict) -> Table:
    """One row per set of rankings: accuracies [%] and, in words, who beats whom."""
    names = list(results["accuracy"]["all"]["accuracy"])
    headers = ["rankings", "pairs", *[f"{name} %" for name in names], "verdict"]
    rows = []
    for source, found in results["accuracy"].items():
        cells = [cell_text(found["accuracy"][name], 100, 1) for name in names]
        verdict = "; ".join(f"{v} {name}" for name, v in found["verdict"].items())
        rows.append([source, str(found["pairs"]), *cells, f"reward model {verdict}"])
    caption = (
        "Accuracy on held-out human comparisons, prompts resampled; chance is 50. "
        "A verdict is that of the paired 95 % interval"
    )
    return Table(headers, rows, caption)


def preparation_tables(report: dict) -> Iterator[Table]:
    """What was read, dropped by each rule, and left."""
    for name, found in report["sets"].items():
        yield Table(
            ["file", "rows", "records", "rejected", "odd but kept"],
            [
                [
                    file,
                    str(read["rows"]),
                    str(read["records"]),
                    str(read["rejected"]),
                    ", ".join(f"{k}: {n}" for k, n in read["warnings"].items()),
                ]
                for file, read in found["sources"].items()
            ],
            f"{name}: read",
        )
        yield Table(
            ["rule", "before", "after", "counts"],
            [
                [
                    rule["rule"],
                    str(rule["read"]),
                    str(rule["kept"]),
                    ", ".join(f"{k} {n}" for k, n in rule["counts"].items()),
                ]
                for rule in found["rules"]
            ],
            f"{name}: rules",
        )
        if found.get("labelers", {}).get("sets"):
            yield _agreement(found["labelers"])


def _agreement(found: dict[str, Any]) -> Table:
    pairwise = found["pairwise"]
    rows = [
        ["sets ranked by several labelers", str(found["sets"])],
        ["labelers", ", ".join(found["labelers"])],
        ["agreement of two labelers, neither of whom ties",
         f"{pairwise['agreement']:.3f}"],
        ["pairs behind it; pairs left out for a tie",
         f"{pairwise['pairs']:.0f}; {pairwise['tied']:.0f}"],
        ["Krippendorff's alpha, ties counted", f"{found['alpha']:.3f}"],
        ["sets tied after aggregation", str(found["tied_after_aggregation"])],
    ]  # fmt: skip
    return Table(["agreement", ""], rows, "Several labelers, made into one ranking")


def sections(results: dict, folder: pathlib.Path) -> Iterator[Section]:
    """The page of a `baselines` stage."""
    yield Section("Reward model and baselines", [*_accuracy(results)])
    if "policies" in results:
        yield Section("Policies", [_policies(results)])
    if curves := [*learning_sections(results)]:
        yield Section("Learning curves", curves)
    if "preparation" in results:
        tables = [*preparation_tables(results["preparation"])]
        yield Section("Data: what was dropped and why", tables)
    if (folder / "samples.jsonl").is_file():
        yield Section("Samples side by side", [samples_beside(results, folder, 16)])


def _accuracy(results: dict) -> Iterator[Any]:
    yield accuracy_table(results)
    leads = {
        source: {n: read_interval(lead) for n, lead in found["lead"].items()}
        for source, found in results["accuracy"].items()
    }
    yield alignment_tax_bars(
        leads,
        title="Lead of the reward model in accuracy",
        x="difference in accuracy (above 0: the reward model is better)",
    )


def _policies(results: dict) -> Table:
    metrics = list(next(iter(results["policies"].values())))
    rows = [
        [name, *[cell_text(cells[metric]) for metric in metrics]]
        for name, cells in results["policies"].items()
    ]
    return Table(["policy", *metrics], rows, "Held-out prompts, 95 % intervals")

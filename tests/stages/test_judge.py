"""Policies before an independent judge: intervals, differences, the report."""

import json
import shutil

import pytest

from rlhf_jax.reports import write_report
from rlhf_jax.reports.judge_report import sections
from rlhf_jax.reports.reading import read_results
from rlhf_jax.stages import judge

WORDS = {0: ("bad", "dull", "sad", "poor"), 1: ("good", "warm", "fine", "bright")}


@pytest.fixture(scope="module")
def results(tiny, tmp_path_factory):
    """A judgement of a policy, and of the same policy under another name."""
    folder = tmp_path_factory.mktemp("judge")
    table = folder / "labelled.tsv"
    rows = [
        f"the day was {WORDS[i % 2][i % 4]} and {WORDS[i % 2][i // 4 % 4]}\t{i % 2}"
        for i in range(64)
    ]
    table.write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    model = str(tiny.done("pretrain") / "model")
    shutil.copytree(model, folder / "ppo/snapshots/000001")
    (folder / "ppo/metrics.jsonl").write_text('{"step": 1, "score": 0.5}\n')
    prepared = tiny.config("candidates")
    config = judge.Config(
        names=("before", "after"),
        policies=(model, model),
        labelled=str(table),
        reward=str(tiny.done("fresh_reward") / "model"),
        prompts=prepared.prompts,
        texts=tiny.config("pretrain").texts,
        runs={"after": str(folder / "ppo")},
        best_of_n=str(tiny.done("best_of_n") / "samples.jsonl"),
        max_prompts=6,
        max_prompt=24,
        max_response=6,
        window=32,
    )
    judge.run(config, folder)
    return folder


def test_a_policy_does_not_differ_from_itself(results):
    found = json.loads((results / "results.json").read_text())
    for row in found["rows"]:
        cell = row["differences"]["after"]
        assert cell["low"] == cell["estimate"] == cell["high"] == 0


def test_the_judge_reads_what_it_was_taught(results):
    found = json.loads((results / "results.json").read_text())
    assert found["judge"]["accuracy"]["estimate"] == 1.0


def test_every_policy_has_every_metric_with_its_interval(results):
    found = json.loads((results / "results.json").read_text())
    metrics = [(row["task"], row["metric"]) for row in found["rows"]]
    assert metrics == [
        ("judge", "mean probability"),
        ("judge", "share over one half"),
        ("reward", "score"),
        ("distance", "KL in nats"),
        ("manner", "words"),
        ("manner", "repeated 3-grams"),
        ("held-out text", "nats per token"),
    ]
    for row in found["rows"]:
        for cell in row["cells"].values():
            assert cell["low"] - 1e-9 <= cell["estimate"] <= cell["high"] + 1e-9


def test_a_run_is_drawn_from_the_first_policy_on(results):
    frontier = json.loads((results / "results.json").read_text())["frontier"]
    assert [point["name"] for point in frontier["after"]] == ["before", "000001"]
    start, snapshot = frontier["after"]
    assert {**start, "name": ""} == {**snapshot, "name": ""}
    assert start["kl"] == 0
    assert len(frontier["best of n"]) > 1


def test_the_report_holds_tables_the_best_of_n_curve_and_samples(results, tmp_path):
    found = list(sections(read_results(results), results))
    text = write_report(tmp_path / "report.html", "Judged", found).read_text()
    assert "Paired difference to before" in text
    assert "best of n" in text and "<svg" in text
    assert "Samples before and after" in text

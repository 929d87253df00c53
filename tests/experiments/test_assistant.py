"""experiments/assistant: human demonstrations and rankings, a few rows of each."""

import json
import pathlib

import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.data import Ranking
from rlhf_jax.data.readers import read
from rlhf_jax.stages.baselines import compared

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"
EXPERIMENT = EXPERIMENTS / "assistant" / "experiment.py"
SMALL = {
    "pretrain.model.embed_dim": 24,
    "pretrain.model.num_layers": 1,
    "pretrain.steps": 4,
    "pretrain.evaluate_every": 4,
    "pretrain.batch_size": 8,
    "pretrain.window": 32,
    "sft.epochs": 1,
    "ppo_init.epochs": 1,
    "report.max_prompts": 4,
    "report.window": 32,
}


def words(folder, workdir, *more):
    overrides = dict(SMALL)
    for name in ("sft", "ppo_init", "reward", "ppo", "ppo_ptx", "report"):
        overrides |= {f"{name}.max_response": 8, f"{name}.max_prompt": 192}
    for name in ("ppo", "ppo_ptx"):
        overrides |= {
            f"{name}.episodes": 16,
            f"{name}.batch_size": 8,
            f"{name}.minibatch_size": 8,
            f"{name}.ptx_window": 16,
        }
    settings = ["--config.settings.tensorboard=False"]
    chosen = [f"--config.{key}={value}" for key, value in overrides.items()]
    return ["run", f"{EXPERIMENT}:{folder},small", "--workdir", str(workdir),
            *settings, *chosen, *more]  # fmt: skip


@pytest.mark.parametrize("size", ["gpt2", "124M", "small"])
def test_every_size_plans_without_data_or_memory(size, capsys):
    # the plan is told, and of what is missing nothing but data
    assert main(["run", f"{EXPERIMENT}:{size}", "--dry-run"]) in (0, 2)
    printed, missing = capsys.readouterr()
    assert "ppo_ptx" in printed
    assert all("no such" in line for line in missing.splitlines()[1:])
    assert ("124,439,808" in printed) == (size == "124M")


def test_an_unknown_size_is_bad_input(capsys):
    assert main(["run", f"{EXPERIMENT}:huge", "--dry-run"]) == 2
    assert "'huge'" in capsys.readouterr().err


def test_preparation_reports_what_it_dropped_and_why(few_rows, tmp_path):
    assert main(words(few_rows, tmp_path, "--stages=prepare")) == 0
    report = json.loads((tmp_path / "prepare" / "report.json").read_text())
    assert set(report["sets"]) == {"demonstrations", "rankings", "prompts", "texts"}
    assert report["leaks"] == []
    for name, found in report["sets"].items():
        rules = {rule["rule"]: rule for rule in found["rules"]}
        expected = {"near-duplicates", "per user", "split", "personal data", "language"}
        assert expected <= set(rules)
        assert ("prompt length" in rules) == (name != "texts")
        for rule in found["rules"]:
            if "dropped" in rule["counts"]:
                assert rule["read"] - rule["kept"] == rule["counts"]["dropped"]
    labelers = report["sets"]["rankings"]["labelers"]
    assert labelers["labelers"] == ["annotator 1", "annotator 2", "annotator 3"]
    assert 0.5 < labelers["pairwise"]["agreement"] <= 1
    rows = list(read(tmp_path / "prepare" / "rankings.jsonl"))
    several = [row for row in rows if "+" in (row.labeler or "")]
    assert len(several) == labelers["sets"] > 0
    assert any(len(row.responses) > 2 for row in rows)  # OpenAssistant's siblings


def test_no_prompt_is_in_two_splits(few_rows, tmp_path):
    assert main(words(few_rows, tmp_path, "--stages=prepare")) == 0
    seen = {}
    for split in ("train", "valid", "test"):
        for row in read(tmp_path / "prepare" / f"rankings.{split}.jsonl"):
            assert seen.setdefault(row.prompt, split) == split


def rankings(count=40):
    return [
        Ranking(
            id=str(i),
            prompt=f"p{i}",
            responses=["good words here", "bad"],
            ranks=[1, 2],
        )
        for i in range(count)
    ]


def test_a_reward_model_that_guesses_is_not_told_apart_from_chance():
    def half(prompts, responses):
        return np.zeros(len(responses))

    found = compared({"reward model": half, "length": half}, rankings())
    assert found["verdict"] == {"length": "not told apart from",
                                "chance": "not told apart from"}  # fmt: skip
    assert found["accuracy"]["reward model"]["estimate"] == 0.5


def test_a_baseline_that_is_better_is_said_to_be():
    def longer(prompts, responses):
        return np.array([len(text) for text in responses], float)

    found = compared(
        {"reward model": lambda p, r: -longer(p, r), "length": longer}, rankings()
    )
    assert found["verdict"]["length"] == "is beaten by"


@pytest.mark.slow
def test_the_whole_chain_runs_and_names_its_baselines(few_rows, tmp_path):
    assert main(words(few_rows, tmp_path)) == 0
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert set(results["accuracy"]["all"]["accuracy"]) == {
        "reward model",
        "length",
        "bag of words",
    }
    assert set(results["policies"]) == {"GPT", "SFT", "PPO", "PPO-ptx"}
    assert "dropped" in (tmp_path / "report.html").read_text()

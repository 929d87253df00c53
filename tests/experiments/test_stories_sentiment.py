"""experiments/stories_sentiment: the real model on a few real rows, all stages."""

import json
import pathlib

import pytest

from rlhf_jax.cli import main
from rlhf_jax.registry.directories import load_model

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"
SMALL = {
    "prepare.openings": 2,
    "comparisons.count": 16,
    "comparisons.valid_count": 4,
    "reward.batch_size": 8,
    "best_of_n.samples": 4,
    "best_of_n.max_prompts": 4,
    "report.frontier_prompts": 4,
    "report.max_prompts": 8,
}
PPO = {
    "episodes": 16,
    "batch_size": 8,
    "minibatch_size": 8,
    "snapshot_every": 1,
    "value_warmup_iterations": 0,
    "ptx_window": 32,
}


def words(folder, workdir, *more):
    overrides = dict(SMALL)
    for name in ("ppo_ptx", "ppo_ptx_low", "ppo_ptx_high", "ppo"):
        overrides |= {f"{name}.{key}": value for key, value in PPO.items()}
        overrides[f"{name}.max_response"] = 8
    for name in ("reward", "best_of_n", "report"):
        overrides[f"{name}.max_response"] = 8
    path = EXPERIMENTS / "stories_sentiment" / "experiment.py"
    settings = ["--config.settings.tensorboard=False"]
    chosen = [f"--config.{key}={value}" for key, value in overrides.items()]
    return ["run", f"{path}:{folder}", "--workdir", str(workdir), *settings, *chosen,
            *more]  # fmt: skip


@pytest.mark.slow
def test_reward_model_and_policy_start_from_the_pretrained_model(few_rows, tmp_path):
    stages = "--stages=prepare,comparisons,reward,ppo_ptx"
    assert main(words(few_rows, tmp_path, stages)) == 0
    policy = load_model(tmp_path / "ppo_ptx" / "model")
    assert policy.model.config.num_kv_heads == 4  # Llama's, not ours
    assert set(policy.tokenizer.end_tokens) == {1, 2}  # kept through the hand-over
    report = json.loads((tmp_path / "prepare" / "report.json").read_text())
    assert report["leaks"] == []
    groups = {
        split: {
            json.loads(line)["group"]
            for line in (tmp_path / f"prepare/prompts.{split}.jsonl").open()
        }
        for split in ("train", "test")
    }
    assert not groups["train"] & groups["test"]


@pytest.mark.slow
def test_all_stages_end_in_a_report_with_intervals(few_rows, tmp_path):
    assert main(words(few_rows, tmp_path)) == 0
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert results["names"][0] == "before" and len(results["names"]) == 5
    judged = results["rows"][0]
    assert judged["task"] == "judge"
    for name in results["names"]:
        cell = judged["cells"][name]
        assert cell["low"] <= cell["estimate"] <= cell["high"]
    points = [point["name"] for point in results["frontier"]["best of n"]]
    assert points == ["best of 1", "best of 2", "best of 4"]
    assert len(results["frontier"]["ppo"]) == 3  # start and two snapshots
    page = (tmp_path / "report.html").read_text()
    assert "Samples before and after" in page and "<svg" in page


def test_the_openings_of_a_story_stay_in_one_split(few_rows, tmp_path):
    assert main(words(few_rows, tmp_path, "--stages=prepare,comparisons")) == 0
    groups = {
        split: {
            json.loads(line)["group"]
            for line in (tmp_path / f"prepare/prompts.{split}.jsonl").open()
        }
        for split in ("train", "test")
    }
    assert groups["train"] and not groups["train"] & groups["test"]
    ranked = (tmp_path / "comparisons" / "rankings.train.jsonl").read_text()
    assert len(ranked.splitlines()) == SMALL["comparisons.count"]

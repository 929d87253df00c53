"""experiments/encoder_reward.py: a decoder beside BERT ⊕ BERT, at the smallest size."""

import json
import pathlib

import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.data.readers import read
from rlhf_jax.registry import load_reward
from rlhf_jax.tracking import read_metrics

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"
EXPERIMENT = EXPERIMENTS / "encoder_reward.py"
REWARDS = ("reward", "encoder", "linear")


@pytest.mark.parametrize(
    ("size", "head", "encoder"), [("full", "257", "606,337"), ("tiny", "65", "59,953")]
)
def test_every_size_plans_without_data_or_memory(size, head, encoder, capsys):
    assert main(["run", f"{EXPERIMENT}:{size}", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    planned = {line.split()[0]: line.split() for line in lines if line}
    assert planned["linear"][2] == head
    assert planned["encoder"][2] == encoder
    assert "ppo_encoder" in planned


def test_an_unknown_size_is_bad_input(capsys):
    assert main(["run", f"{EXPERIMENT}:huge", "--dry-run"]) == 2
    assert "'huge' is not full or tiny" in capsys.readouterr().err


@pytest.mark.slow
def test_the_smallest_size_runs_and_reports_the_three_side_by_side(tmp_path):
    words = ["--workdir", str(tmp_path), "--config.settings.tensorboard=False"]
    assert main(["run", f"{EXPERIMENT}:tiny", *words]) == 0
    page = (tmp_path / "report.html").read_text()
    for name, folder in zip(("decoder", "encoder", "linear"), REWARDS, strict=True):
        report = json.loads((tmp_path / folder / "report.json").read_text())
        assert 0 <= report["valid"]["accuracy"] <= 1
        assert report["held_out"]["pairs"] > 0
        assert f"{100 * report['valid']['accuracy']:.1f} [" in page and name in page
    for row in read_metrics(tmp_path / "ppo_encoder"):
        assert np.isfinite(row["score"])
    _the_prompt_cancels(tmp_path)


def _the_prompt_cancels(folder: pathlib.Path) -> None:
    """In a comparison, for the encoders; not for the decoder."""
    (first, second, *_) = read(folder / "world" / "prompts.test.jsonl")
    said = ["Yes.", "I do not know that."]
    for name in REWARDS:
        score = load_reward(folder / name).score
        one, two = (np.diff(score([row.prompt] * 2, said)) for row in (first, second))
        assert np.allclose(one, two, atol=1e-4) == (name != "reward")

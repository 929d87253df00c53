"""What is told before anything is spent, and before a finished stage is touched."""

import dataclasses
import json

import pytest
import tiny_experiment
from fake_stage import install
from test_pipeline import Config, chain, quiet, ran, run

from rlhf_jax.cli import main
from rlhf_jax.errors import InputError
from rlhf_jax.models import TrunkConfig
from rlhf_jax.pipeline.checks import problems_of, require_ready
from rlhf_jax.pipeline.experiment import Experiment
from rlhf_jax.pipeline.runner import run_experiment
from rlhf_jax.registry import load_model
from rlhf_jax.stages import dpo, ppo, reward, sft


@pytest.fixture(autouse=True)
def fake_stage(monkeypatch):
    install(monkeypatch, Config, run)
    ran.clear()


def problems(**stages):
    return list(problems_of(Experiment("x", stages)))


def test_the_tiny_run_has_no_problem():
    require_ready(Experiment("tiny", tiny_experiment.stages()))


def test_a_typo_on_a_finished_run_is_told_before_anything_is_set_aside(tmp_path):
    (tmp_path / "in.txt").write_text("1")
    good = Experiment("x", {"one": Config(str(tmp_path / "in.txt"))})
    run_experiment(good, tmp_path / "run", say=quiet)
    typo = Experiment("x", {"one": Config(str(tmp_path / "inn.txt"))})
    with pytest.raises(InputError, match="config.one.source: .*inn.txt: no such file"):
        run_experiment(typo, tmp_path / "run", say=quiet)
    assert [path.name for path in (tmp_path / "run").glob("one*")] == ["one"]
    ran.clear()
    run_experiment(good, tmp_path / "run", say=quiet)
    assert ran == []


def test_missing_files_models_and_rewards_are_told_all_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.py").write_text("def score(p, r): return 0\n")
    (tmp_path / "empty").mkdir()
    found = problems(
        a=ppo.Config("./nowhere", "python:r.py:scores", ("p.jsonl",), ("hf:x/y",)),
        b=ppo.Config("empty", "python:absent.py:f", ("empty",), value="gpt2"),
        c=sft.Config("empty/model", ("@d/x.jsonl",), select_by="last"),
        d=Config("@one/../../etc"),
    )
    text = "\n".join(found)
    for line in (
        "config.a.init: ./nowhere: no such model",
        "config.a.reward: r.py: defines no 'scores'",
        "config.a.prompts[0]: p.jsonl: no such file",
        "config.b.init: empty: neither model.json nor config.json",
        "config.b.reward: absent.py: No such file",
        "config.b.prompts[0]: empty: a directory",
        "config.c.init: empty/model: no such model",  # never asked of the hub
        "config.c.demonstrations[0]: @d/x.jsonl comes later",
        "config.d.source: @one/../../etc leads out of the stage",
    ):
        assert line in text
    assert "hf:x/y" not in text and "gpt2" not in text


LONG = {"max_prompt": 60, "max_response": 60}


@pytest.mark.parametrize(
    "name",
    ["sft", "dpo", "ppo", "candidates", "best_of_n", "reward", "report"],
)
def test_texts_longer_than_the_context_are_told_for_every_kind(name):
    stages = tiny_experiment.stages()
    stages[name] = dataclasses.replace(stages[name], **LONG)
    found = problems(**stages)
    assert found and all(line.startswith(f"config.{name}.") for line in found)
    assert "120 tokens, expected at most 64, the context of" in found[0]


def test_windows_longer_than_the_context_are_told():
    stages = tiny_experiment.stages()
    stages["pretrain"] = dataclasses.replace(stages["pretrain"], window=65)
    stages["ppo_ptx"] = dataclasses.replace(stages["ppo_ptx"], ptx_window=66)
    first, second = problems(**stages)
    assert first.startswith("config.pretrain.window is 65 tokens")
    assert second.startswith("config.ppo_ptx.ptx_window is 66 tokens")


def test_models_with_rotary_positions_may_train_on_longer_texts():
    stages = tiny_experiment.stages()
    shape = TrunkConfig(400, 64, 32, 2, 2, positions="rotary")
    stages["pretrain"] = dataclasses.replace(stages["pretrain"], model=shape)
    stages["sft"] = dataclasses.replace(stages["sft"], **LONG)
    assert problems(**stages) == []


def test_a_transformers_directory_is_checked_too(tiny, tmp_path):
    from rlhf_jax.models import save_pretrained

    model = tiny.model("pretrain")
    save_pretrained(tmp_path, model.model.config, model.params, model.tokenizer)
    config = dpo.Config(str(tmp_path), (str(tmp_path / "config.json"),))
    (line,) = problems(a=config)
    assert "2000 tokens, expected at most 64, the context of init" in line


def test_the_dry_run_tells_it_with_the_plan(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.py").write_text(
        "from rlhf_jax.pipeline import Experiment\n"
        "from rlhf_jax.stages import dpo\n"
        "def get_config():\n"
        "    return Experiment('x', {'a': dpo.Config('m', ('r.jsonl',))}).to_config()\n"
    )
    assert main(["run", "x.py", "--dry-run"]) == 2
    told = capsys.readouterr()
    assert "config.a.rankings[0]: r.jsonl: no such file" in told.err
    assert "kept" in told.out
    assert not (tmp_path / "runs").exists()


def test_a_start_may_name_the_directory_of_a_stage(tiny, tmp_path):
    done = tiny.done("pretrain")
    (done / "stage.json").write_text("{}")
    assert load_model(done).meta["stage"] == "pretrain"
    stages = {"a": reward.Config(str(done), (str(done / "stage.json"),), **LONG)}
    (line,) = problems(**stages)  # found, read, and too small
    (done / "stage.json").unlink()
    assert "expected at most 64" in line


@pytest.mark.parametrize(
    "name", ["/abs", "..", "a/b", "a.b", "", "a b", "x" * 101, "a\x1b[0m"]
)
def test_a_name_that_is_no_directory_name_is_refused(name):
    with pytest.raises(InputError, match="expected letters, digits, _ and -"):
        Experiment("x", {name: Config()}).to_config()


def test_results_name_their_neighbours_relative_to_themselves(tmp_path):
    from rlhf_jax.reports.reading import read_results

    for run_name in ("original", "copy"):
        for stage in ("report", "ppo"):
            (tmp_path / run_name / stage).mkdir(parents=True)
    results = {
        "stages": {"PPO": "../ppo"},
        "runs": {"PPO": str(tmp_path / "original/ppo")},
    }
    (tmp_path / "copy/report/results.json").write_text(json.dumps(results))
    found = read_results(tmp_path / "copy/report")
    assert found["stages"]["PPO"] == str(tmp_path / "copy/ppo")
    assert found["runs"]["PPO"] == str(tmp_path / "copy/ppo")
    assert chain().stages

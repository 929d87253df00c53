"""Done means: all of it is there, byte by byte, and can be loaded."""

import json
import pathlib
import shutil

import pytest
import tiny_experiment
from fake_stage import install
from test_pipeline import Config, chain, quiet, ran, run

from rlhf_jax.cli.report import make_reports
from rlhf_jax.errors import InputError, NumericsError, RunError
from rlhf_jax.pipeline.experiment import Experiment
from rlhf_jax.pipeline.finished import damage, done_hash, mark_done, require_result
from rlhf_jax.pipeline.runner import run_experiment
from rlhf_jax.stages import sft


@pytest.fixture(autouse=True)
def fake_stage(monkeypatch):
    install(monkeypatch, Config, run)
    ran.clear()


def flip(path, byte, bit):
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.parametrize("what", ["flip", "delete", "truncate", "swap"])
def test_a_finished_stage_that_is_damaged_runs_again_and_says_so(tmp_path, what):
    run_experiment(chain(), tmp_path, say=quiet)
    file = tmp_path / "two/out.txt"
    if what == "flip":
        flip(file, 0, 3)
    elif what == "delete":
        file.unlink()
    elif what == "truncate":
        file.write_bytes(b"")
    else:
        shutil.copy(tmp_path / "one/out.txt", file)
    ran.clear()
    said = []
    run_experiment(chain(), tmp_path, say=said.append)
    assert ran == ["two"] and file.read_text() == "ab"
    assert any(str(file) in line and "runs again" in line for line in said)
    assert (tmp_path / "two.damaged").is_dir()
    run_experiment(chain(), tmp_path, say=quiet)
    assert ran == ["two"]


def test_a_later_stage_refuses_a_damaged_one(tmp_path):
    run_experiment(chain(), tmp_path, only=["one", "two"], say=quiet)
    flip(tmp_path / "two/out.txt", 0, 0)
    with pytest.raises(InputError, match="two/out.txt: its bytes have changed"):
        run_experiment(chain(), tmp_path, only=["three"], say=quiet)


def test_no_bit_of_what_vouches_for_a_stage_can_change(tmp_path):
    run_experiment(chain(), tmp_path, only=["one"], say=quiet)
    folder, wanted = tmp_path / "one", done_hash(tmp_path / "one")
    whole = {
        name: (folder / name).read_bytes() for name in ("done.json", "manifest.json")
    }
    for name, data in whole.items():
        for byte in range(0, len(data), 7):
            flip(folder / name, byte, byte % 8)
            broken = done_hash(folder) != wanted or damage(folder)
            same = name == "done.json" and json.loads(data) == _json(folder / name)
            assert broken or same, (name, byte)
            (folder / name).write_bytes(data)
    assert damage(folder) is None


def _json(path):
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def test_checkpoints_and_notes_are_no_result_but_a_foreign_snapshot_is(tmp_path):
    for name in ("model", "checkpoints/3", "snapshots/000002"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.json").write_text("{}")
    mark_done(tmp_path, "hash")
    shutil.rmtree(tmp_path / "checkpoints")
    (tmp_path / "notes.txt").write_text("mine")
    assert damage(tmp_path) is None
    (tmp_path / "snapshots/000004").mkdir()
    (tmp_path / "snapshots/000004/model.json").write_text("{}")
    assert "000004/model.json: was not there" in damage(tmp_path)
    assert damage(tmp_path, only=lambda name: name.startswith("model")) is None


def test_every_file_of_a_model_is_covered(tiny, tmp_path):
    shutil.copytree(tiny.done("pretrain") / "model", tmp_path / "model")
    mark_done(tmp_path, "hash")
    assert damage(tmp_path) is None
    for path in sorted((tmp_path / "model").rglob("*")):
        if not path.is_file():
            continue
        before = path.read_bytes()
        if before:
            flip(path, len(before) // 2, 0)
            assert damage(tmp_path), path
            path.write_bytes(before)
        path.unlink()
        assert damage(tmp_path), path
        path.write_bytes(before)
    assert damage(tmp_path) is None


def test_a_stage_that_returns_without_its_result_is_not_done(tmp_path, monkeypatch):
    install(monkeypatch, Config, lambda config, workdir, settings: workdir / "model")
    experiment = Experiment("x", {"one": Config()})
    with pytest.raises(RunError, match="one: has ended without its result"):
        run_experiment(experiment, tmp_path, say=quiet)
    assert not (tmp_path / "one/done.json").exists()


def test_a_model_is_read_before_its_stage_is_done(tiny, tmp_path):
    model = shutil.copytree(tiny.done("pretrain") / "model", tmp_path / "model")
    require_result("pretrain", model)
    marker = pathlib.Path(model) / "model.json"
    text = json.loads(marker.read_text())
    text["config"]["embed_dim"] = 64
    del text["checksum"]  # a change that is meant
    marker.write_text(json.dumps(text))
    with pytest.raises(RunError, match="another state"):
        require_result("pretrain", model)
    shutil.rmtree(tmp_path / "model/tokenizer")
    marker.write_text((tiny.done("pretrain") / "model/model.json").read_text())
    with pytest.raises(RunError):
        require_result("pretrain", model)


@pytest.mark.parametrize("name", ["report/results.json", "ppo/metrics.jsonl"])
def test_a_report_refuses_results_and_metrics_that_have_changed(tmp_path, name):
    for stage in ("report", "ppo"):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "stage.json").write_text("{}")
    (tmp_path / "ppo/metrics.jsonl").write_text('{"step": 1, "score": 1}\n')
    results = {"report": "none", "stages": {}, "runs": {"PPO": "../ppo"}}
    (tmp_path / "report/results.json").write_text(json.dumps(results))
    for stage in ("report", "ppo"):
        mark_done(tmp_path / stage, "hash")
    with pytest.raises(InputError, match="results of an evaluate"):
        make_reports(tmp_path)  # read, and of no kind
    flip(tmp_path / name, 23, 1)
    with pytest.raises(InputError, match=f"{name}: its bytes have changed"):
        make_reports(tmp_path)


def test_a_loss_that_is_no_number_selects_no_epoch(tmp_path):
    config = tiny_experiment.stages()["sft"]
    measures = {"valid/nats_per_token": lambda params: float("nan")}
    selection = sft.Selection(config, None, tmp_path, measures)
    with pytest.raises(NumericsError, match="valid/nats_per_token is nan"):
        selection.evaluate(None, 1)

"""A run directory says what ran, on what, and refuses to become another run."""

import json
import subprocess

import pytest

from rlhf_jax.checkpoints import tree_hash
from rlhf_jax.errors import InputError
from rlhf_jax.tracking import RunDirectory, revision, versions


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"prompt": "?"}\n')
    return {"train": path}


def test_a_start_is_written_down_whole(tmp_path, data):
    run = RunDirectory(tmp_path / "run")
    config = {"ppo": {"kl_coef": 0.02, "layers": (1, 2)}}
    run.begin(
        config, overrides=["ppo.kl_coef=0.02"], data=data, parents={"sft": "ab12"}
    )
    assert json.loads((run.path / "config.json").read_text()) == {
        "ppo": {"kl_coef": 0.02, "layers": [1, 2]}
    }
    provenance = run.provenance()
    assert provenance["data"] == {"train": tree_hash(data["train"])}
    assert provenance["parents"] == {"sft": "ab12"}
    (start,) = provenance["starts"]
    assert start["overrides"] == ["ppo.kl_coef=0.02"]
    assert start["versions"]["jax"] and start["versions"]["python"]
    assert start["devices"] == "8 x cpu" and start["command"]


def test_a_resume_adds_a_start(tmp_path, data):
    run = RunDirectory(tmp_path / "run")
    for _ in range(3):
        run.begin({"a": 1}, data=data)
    assert len(run.provenance()["starts"]) == 3
    names = {path.name for path in run.path.iterdir()}
    assert names == {"config.json", "provenance.json"}


def test_other_data_or_config_is_refused_key_by_key(tmp_path, data):
    run = RunDirectory(tmp_path / "run")
    run.begin({"lr": 0.1, "steps": 5}, data=data)
    before = run.provenance()["data"]["train"]
    data["train"].write_text("{}\n")
    with pytest.raises(InputError) as caught:
        run.begin({"lr": 0.2, "steps": 5}, data=data)
    assert "config.lr: 0.1 -> 0.2" in str(caught.value)
    assert f"data.train: {before} -> {tree_hash(data['train'])}" in str(caught.value)
    assert "steps" not in str(caught.value)
    run.begin({"lr": 0.2, "steps": 5}, data=data, override=["config.lr", "data"])
    assert json.loads((run.path / "config.json").read_text())["lr"] == 0.2


def test_a_damaged_provenance_is_named(tmp_path):
    (tmp_path / "provenance.json").write_text("{")
    with pytest.raises(InputError, match="provenance.json: not readable"):
        RunDirectory(tmp_path).begin({})


def test_absent_data_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: no file or directory"):
        RunDirectory(tmp_path).begin({}, data={"train": tmp_path / "nowhere"})


def test_the_revision_is_the_commit_and_tells_of_changes(tmp_path):
    assert revision(tmp_path) is None

    def git(*command):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, "-C", str(tmp_path), *command], check=True)

    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-q", "-m", "one")
    commit = revision(tmp_path)
    assert len(commit) == 40
    (tmp_path / "file").write_text("2")
    assert revision(tmp_path) == f"{commit}+changes"


def test_versions_name_what_numbers_depend_on():
    assert {"python", "jax", "numpy", "orbax-checkpoint", "optax"} <= set(versions())

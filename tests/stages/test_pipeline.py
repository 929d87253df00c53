"""Stages in order, each once; references, hashes, errors."""

import dataclasses
import json
import pathlib

import pytest
from fake_stage import MODULE, install

from rlhf_jax.errors import InputError
from rlhf_jax.fields import Answers, DataFile, Folder, Length, Stop, Watch
from rlhf_jax.pipeline.content import content_hashes
from rlhf_jax.pipeline.experiment import Experiment, load_experiment
from rlhf_jax.pipeline.runner import run_experiment


@dataclasses.dataclass
class Config:
    source: Folder = ""
    text: str = "x"
    rows: tuple[DataFile, ...] = ()
    labelers: Answers = "gold"
    steps: Length = 1
    most: Stop = 1.0
    every: Watch = 1
    seed: int = 0


ran: list[str] = []


def run(config, workdir, settings):
    ran.append(pathlib.Path(workdir).name)
    before = pathlib.Path(config.source).read_text() if config.source else ""
    (pathlib.Path(workdir) / "out.txt").write_text(before + config.text)


@pytest.fixture(autouse=True)
def fake_stage(monkeypatch):
    install(monkeypatch, Config, run)
    ran.clear()


def chain(last="c"):
    return Experiment(
        "chain",
        {
            "one": Config(text="a"),
            "two": Config("@one/out.txt", "b"),
            "three": Config("@two/out.txt", last),
        },
    )


def quiet(_):
    pass


def test_stages_run_in_order_and_read_each_other(tmp_path):
    run_experiment(chain(), tmp_path, say=quiet)
    assert ran == ["one", "two", "three"]
    assert (tmp_path / "three/out.txt").read_text() == "abc"


def test_what_is_done_is_skipped(tmp_path):
    run_experiment(chain(), tmp_path, say=quiet)
    run_experiment(chain(), tmp_path, say=quiet)
    assert ran == ["one", "two", "three"]


def test_a_change_runs_again_what_depends_on_it_and_sets_the_old_aside(tmp_path):
    run_experiment(chain(), tmp_path, say=quiet)
    run_experiment(chain(last="d"), tmp_path, say=quiet)
    assert ran == ["one", "two", "three", "three"]
    assert (tmp_path / "three/out.txt").read_text() == "abd"
    (aside,) = tmp_path.glob("three.*")
    assert (aside / "out.txt").read_text() == "abc"


def test_settings_that_are_changed_back_take_the_old_run_back(tmp_path):
    run_experiment(chain(), tmp_path, say=quiet)
    run_experiment(chain(last="d"), tmp_path, say=quiet)
    ran.clear()
    said = []
    run_experiment(chain(), tmp_path, say=said.append)
    assert ran == []
    assert (tmp_path / "three/out.txt").read_text() == "abc"
    assert any("taken back" in line for line in said)
    run_experiment(chain(last="d"), tmp_path, say=quiet)
    assert ran == [] and (tmp_path / "three/out.txt").read_text() == "abd"


def test_a_change_upstream_changes_every_hash_downstream():
    plain, changed = chain(), chain()
    changed.stages["one"] = Config(text="z")
    before, after = content_hashes(plain), content_hashes(changed)
    assert all(before[name] != after[name] for name in before)


def test_the_contents_of_a_named_file_are_part_of_the_hash(tmp_path):
    file = tmp_path / "in.txt"
    file.write_text("1")
    one = content_hashes(Experiment("e", {"s": Config(str(file))}))
    file.write_text("2")
    assert one != content_hashes(Experiment("e", {"s": Config(str(file))}))


def test_a_stage_cut_before_its_mark_runs_again(tmp_path):
    run_experiment(chain(), tmp_path, say=quiet)
    (tmp_path / "two/done.json").unlink()
    run_experiment(chain(), tmp_path, say=quiet)
    assert ran == ["one", "two", "three", "two"]


def test_one_stage_alone_needs_its_inputs(tmp_path):
    with pytest.raises(InputError, match="needs the stage 'two', which is not done"):
        run_experiment(chain(), tmp_path, only=["three"], say=quiet)
    with pytest.raises(InputError, match="not in this experiment"):
        run_experiment(chain(), tmp_path, only=["four"], say=quiet)


def test_overrides_reach_the_stage_and_mistakes_name_the_key(tmp_path):
    file = tmp_path / "x.py"
    file.write_text(
        "from rlhf_jax.pipeline.experiment import Experiment\n"
        f"from {MODULE} import Config\n"
        "def get_config():\n"
        "    return Experiment('x', {'one': Config()}).to_config()\n"
    )
    found, overrides = load_experiment(str(file), ["--config.one.text=hi"])
    assert found.stages["one"].text == "hi"
    assert overrides == {"one.text": "hi"}
    with pytest.raises(InputError, match="one.txt=hi: one has no 'txt'. Did you mean"):
        load_experiment(str(file), ["--config.one.txt=hi"])
    with pytest.raises(InputError, match="one.zzz=1: one has no 'zzz'"):
        load_experiment(str(file), ["--config.one.text=hi", "--config.one.zzz=1"])
    with pytest.raises(InputError, match="one2.zzz=1: the experiment has no 'one2'"):
        load_experiment(str(file), ["--config.one2.zzz=1"])
    with pytest.raises(InputError, match="no such experiment"):
        load_experiment(str(tmp_path / "y.py"), [])


def test_the_seed_of_an_experiment_moves_every_stage_once(tmp_path):
    experiment = Experiment("x", {"one": Config(seed=2)}, seed=5)
    assert experiment.stages["one"].seed == 7
    for _ in range(2):
        experiment = Experiment.from_config(experiment.to_config())
        assert experiment.stages["one"].seed == 7
    run_experiment(experiment, tmp_path, say=quiet)
    stage = json.loads((tmp_path / "one/stage.json").read_text())
    assert stage["config"]["seed"] == 7


def test_a_file_named_with_its_format_is_part_of_the_hash(tmp_path):
    file = tmp_path / "trees.jsonl"
    file.write_text("a")
    named = Experiment("x", {"one": Config(rows=(f"{file}#oasst",))})
    before = content_hashes(named)
    file.write_text("b")
    assert content_hashes(named) != before


def test_corrected_answers_of_people_run_a_stage_again_in_its_place(tmp_path):
    file = tmp_path / "people.jsonl"
    asked = Experiment(
        "x", {"one": Config(labelers=f"file:{file}"), "two": Config("@one/out.txt")}
    )
    run_experiment(asked, tmp_path / "run", say=quiet)
    (tmp_path / "run/one/candidates.jsonl").write_text("what they were asked")
    for answers in ("first", "corrected"):
        file.write_text(answers)
        ran.clear()
        run_experiment(asked, tmp_path / "run", say=quiet)
        run_experiment(asked, tmp_path / "run", say=quiet)
        assert ran == ["one", "two"]
    assert (tmp_path / "run/one/candidates.jsonl").exists()
    aside = {p.name.split(".")[0] for p in (tmp_path / "run").glob("*.????????*")}
    assert aside == {"two"}


def test_a_reference_to_no_stage_is_an_error():
    config = Experiment("x", {"one": Config("@nowhere/out.txt")}).to_config()
    with pytest.raises(InputError, match="@nowhere/out.txt names no stage"):
        Experiment.from_config(config)


def test_the_run_directory_says_what_ran(tmp_path):
    run_experiment(chain(), tmp_path, overrides={"two.text": "b"}, say=quiet)
    assert json.loads((tmp_path / "overrides.json").read_text()) == {"two.text": "b"}
    stage = json.loads((tmp_path / "two/stage.json").read_text())
    assert stage["config"]["source"] == "@one/out.txt"
    assert list(stage["inputs"]) == ["one"]

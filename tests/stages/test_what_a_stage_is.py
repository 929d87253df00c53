"""What a stage is known by: declared paths by their bytes, and nothing by accident."""

import dataclasses
import functools

import pytest
import tiny_experiment
from fake_stage import install
from test_pipeline import Config, chain, quiet, ran, run

from rlhf_jax.errors import InputError
from rlhf_jax.fields import Role, leaves
from rlhf_jax.pipeline.content import content_hash, content_hashes, files_of, identity
from rlhf_jax.pipeline.experiment import Experiment
from rlhf_jax.pipeline.runner import run_experiment
from rlhf_jax.stages import KINDS, module_of, ppo
from rlhf_jax.training.identity import code_of, portable


@pytest.fixture(autouse=True)
def fake_stage(monkeypatch):
    install(monkeypatch, Config, run)
    ran.clear()


def test_what_lies_in_the_working_directory_changes_no_hash(tmp_path, monkeypatch):
    experiment = Experiment("tiny", tiny_experiment.stages())
    monkeypatch.chdir(tmp_path)
    before = content_hashes(experiment)
    for word in ("cosine", "adam", "SFT", "PPO", "mean", "last", "float32", "xla"):
        (tmp_path / word).mkdir()
    assert content_hashes(experiment) == before


def test_one_file_under_three_spellings_and_another_name_is_the_same(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text("1")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/b.jsonl").write_text("1")
    names = ["a.jsonl", "./a.jsonl", str(tmp_path / "a.jsonl"), "other/b.jsonl"]
    hashes = {content_hash(Config(rows=(name,)), {}) for name in names}
    assert len(hashes) == 1
    other_format = content_hash(Config(rows=("a.jsonl#oasst",)), {})
    assert other_format not in hashes
    (tmp_path / "a.jsonl").write_text("2")
    assert content_hash(Config(rows=("a.jsonl",)), {}) not in hashes
    assert list(files_of(Config(rows=("a.jsonl",)))) == ["rows[0]"]


def test_a_file_whose_name_has_the_sign_of_a_format_is_that_file(tmp_path):
    (tmp_path / "a#b.jsonl").write_text("1")
    named = Config(rows=(str(tmp_path / "a#b.jsonl"),))
    before = content_hash(named, {})
    (tmp_path / "a#b.jsonl").write_text("2")
    assert content_hash(named, {}) != before


def test_the_file_of_a_python_reward_is_part_of_the_stage(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def score(prompts, responses): return [0] * len(responses)\n")
    fields = {"init": "@a/model", "prompts": (), "reward": f"python:{file}:score"}
    before = content_hash(ppo.Config(**fields), {})
    file.write_text("def score(prompts, responses): return [1] * len(responses)\n")
    assert content_hash(ppo.Config(**fields), {}) != before


def test_every_kind_declares_which_of_its_fields_are_paths():
    """A field that holds a path and does not say so would be known by its spelling."""
    words = ("texts", "prompts", "rankings", "demonstrations", "init", "policy",
             "policies", "reward", "labelled", "world", "runs", "stages",
             "tokenizer", "preparation", "held_out", "value")  # fmt: skip
    for kind in KINDS:
        if kind == "fake":
            continue
        config = module_of(kind).Config
        hints = {f.name: f.type for f in dataclasses.fields(config)}
        for name, hint in hints.items():
            if name.removeprefix("valid_") in words:
                assert "Role" in repr(hint) or "Annotated" in repr(hint), (kind, name)


def test_length_stop_and_watch_are_no_part_of_what_a_stage_is():
    stage = tiny_experiment.stages()["ppo"]
    free = {"episodes": 64, "max_kl": 1.0, "snapshot_every": 3}
    changed = dataclasses.replace(stage, **free)
    assert identity(changed, {}) == identity(stage, {})
    assert content_hash(changed, {}) != content_hash(stage, {})  # longer: not done
    watched = dataclasses.replace(stage, max_kl=1.0, snapshot_every=3)
    assert content_hash(watched, {}) == content_hash(stage, {})
    roles = {leaf.key: leaf.role for leaf in leaves(stage)}
    assert roles["episodes"] is Role.LENGTH and roles["prompts[0]"] is Role.DATA
    other = dataclasses.replace(stage, kl=ppo.KLControl(kl_coef=0.5))
    assert identity(other, {}) != identity(stage, {})


def test_a_moved_run_has_the_same_portable_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = [tmp_path / "run", tmp_path / "moved"]
    found = [portable(Config(str(p / "one/out.txt")), p) for p in places]
    relative = portable(Config("run/one/out.txt"), tmp_path / "run")
    assert found[0] == found[1] == relative
    assert found[0]["source"] == "@one/out.txt"
    assert "steps" not in found[0] and "most" not in found[0]


def test_another_function_has_another_code():
    def weighted(weight):
        return lambda prompts, responses: [weight * len(r) for r in responses]

    assert code_of(weighted(1.0)) == code_of(weighted(1.0))
    assert code_of(weighted(1.0)) != code_of(weighted(2.0))
    assert code_of(len) != code_of(sum)
    a, b = (functools.partial(weighted, weight=w) for w in (1, 2))
    assert code_of(a) != code_of(b)


def longer(steps, **changes):
    made = chain()
    made.stages["two"] = dataclasses.replace(made.stages["two"], steps=steps, **changes)
    return made


def test_a_finished_stage_that_grew_goes_on_when_told_to(tmp_path):
    run_experiment(longer(6), tmp_path, say=quiet)
    with pytest.raises(InputError, match="two: .*steps 6 -> 12: add --extend"):
        run_experiment(longer(12), tmp_path, say=quiet)
    assert (tmp_path / "two/done.json").exists()
    ran.clear()
    said = []
    run_experiment(longer(12), tmp_path, extend=True, say=said.append)
    assert ran == ["two", "three"]
    assert any("steps 6 -> 12, from its last checkpoint" in line for line in said)
    assert not list(tmp_path.glob("two.*")) and list(tmp_path.glob("three.*"))
    with pytest.raises(InputError, match="12 -> 6: a run can be made longer, not sh"):
        run_experiment(longer(6), tmp_path, extend=True, say=quiet)


def test_a_limit_or_a_watch_that_changes_leaves_a_finished_stage_alone(tmp_path):
    run_experiment(longer(6), tmp_path, say=quiet)
    ran.clear()
    said = []
    changed = longer(6, most=5.0, every=3)
    run_experiment(changed, tmp_path, say=said.append)
    assert ran == []
    assert "changes nothing of it: most, every" in said[1]

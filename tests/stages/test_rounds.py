"""Going round again: what a second round is made of, killed, and by people."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest
import tiny_rounds
from stage_worker import on_one_device
from test_stage_kills import bits, lines

from rlhf_jax.cli import main
from rlhf_jax.data import Prompt, Ranking
from rlhf_jax.data.readers import read
from rlhf_jax.errors import InputError
from rlhf_jax.faults import injected
from rlhf_jax.pipeline import run_experiment
from rlhf_jax.pipeline.rounds import rounds
from rlhf_jax.stages import candidates

FILE = pathlib.Path(tiny_rounds.__file__)
SECOND = ("candidates_2", "reward_2", "ppo_2")


def test_a_round_is_made_of_the_rounds_before():
    made = rounds(tiny_rounds.one_round(), 3)
    assert list(made)[5:] == [*SECOND, "candidates_3", "reward_3", "ppo_3"]
    first = made["candidates"].policies
    assert made["candidates_2"].policies == (*first, "@ppo/model")
    assert made["candidates_3"].policies == (*first, "@ppo_2/model")
    assert made["reward_3"].rankings == tuple(
        f"@{name}/rankings.jsonl"
        for name in ("candidates", "candidates_2", "candidates_3")
    )
    assert made["reward_3"].init == made["reward"].init
    assert made["ppo_3"].reward == "@reward_3/model"
    assert made["ppo_3"].init == made["ppo"].init == "@pretrain/model"
    assert rounds(made, 1) == made


def test_names_that_are_no_stages_are_refused():
    with pytest.raises(InputError, match="no stage reward; there are world"):
        rounds({"world": None, "candidates": None, "ppo": None}, 2)
    with pytest.raises(InputError, match="0 is not at least 1"):
        rounds(tiny_rounds.one_round(), 0)


def test_each_round_goes_on_with_the_next_prompts(monkeypatch):
    rows = [Prompt(id=str(i), prompt="p") for i in range(7)]
    monkeypatch.setattr(candidates, "read_prompts", lambda files: list(rows))

    def ids(number, most):
        config = candidates.Config(("p",), ("q",), max_prompts=most, round=number)
        return "".join(row.id for row in candidates.prompts_of_round(config))

    assert [ids(n, 3) for n in (1, 2, 3)] == ["012", "345", "601"]
    assert ids(2, None) == ids(2, 9) == "0123456"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The directory of two rounds that nobody disturbed."""
    on_one_device()
    workdir = tmp_path_factory.mktemp("rounds")
    again(workdir)
    return workdir


@pytest.fixture
def before_round_two(done, tmp_path):
    """A copy of it that has only its first round."""
    workdir = tmp_path / "run"
    shutil.copytree(done, workdir, ignore=shutil.ignore_patterns(*SECOND))
    return workdir


def rankings_of(folder):
    return list(read(folder / "rankings.jsonl", "jsonl"))


def test_the_second_round_asks_anew_and_trains_on_both(done):
    first, second = (rankings_of(done / n) for n in ("candidates", "candidates_2"))
    assert len(first) == len(second) == 8
    assert {row.id for row in first}.isdisjoint(row.id for row in second)
    assert {row.labeler for row in first} & {row.labeler for row in second}
    few, many = (len(lines(done / name)) for name in ("reward", "reward_2"))
    assert many == 2 * few
    assert bits(done / "ppo/model") != bits(done / "ppo_2/model")


def again(workdir):
    run_experiment(tiny_rounds.experiment("2"), workdir, say=lambda _: None)


def cut(workdir, fault):
    with injected(f"{fault}:raise"), pytest.raises(RuntimeError):
        again(workdir)


def killed(workdir, fault):
    words = [sys.executable, str(FILE), "2", str(workdir)]
    environment = {**os.environ, "RLHF_FAULT": f"{fault}:SIGKILL"}
    ran = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert ran.returncode == -signal.SIGKILL, ran.stderr


@pytest.mark.parametrize("end", [cut, pytest.param(killed, marks=pytest.mark.slow)])
def test_a_second_round_killed_ends_in_the_same_bytes(done, before_round_two, end):
    workdir = before_round_two
    marks = [workdir / name / "done.json" for name in ("candidates", "ppo")]
    before = [mark.read_bytes() for mark in marks]
    end(workdir, "train.step:4")
    assert not (workdir / "reward_2/done.json").exists()
    end(workdir, "ppo.minibatch:6")
    assert (workdir / "reward_2/done.json").exists()
    again(workdir)
    assert [mark.read_bytes() for mark in marks] == before
    rankings = [folder / "candidates_2/rankings.jsonl" for folder in (workdir, done)]
    assert rankings[0].read_bytes() == rankings[1].read_bytes()
    for name in ("reward_2", "ppo_2"):
        assert bits(workdir / name / "model") == bits(done / name / "model")
        assert lines(workdir / name) == lines(done / name)


def test_a_second_round_waits_for_people_and_goes_on(
    before_round_two, tmp_path, capsys
):
    people = tmp_path / "people.jsonl"
    command = ["run", f"{FILE}:2,file:{people}", "--workdir", str(before_round_two)]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.count("wait for people") == 1 and "Traceback" not in said
    todo = pathlib.Path(f"{people}.todo.jsonl")
    waiting = [json.loads(line) for line in todo.open()]
    assert len(waiting) == 8 and f"{todo}" in said
    ranked = [
        Ranking(**row, ranks=list(range(1, len(row["responses"]) + 1)))
        for row in waiting
    ]
    people.write_text("".join(row.model_dump_json() + "\n" for row in ranked))
    assert main(command) == 0
    assert {row.labeler for row in rankings_of(before_round_two / SECOND[0])} == {
        "people"
    }
    assert (before_round_two / "ppo_2/done.json").exists()

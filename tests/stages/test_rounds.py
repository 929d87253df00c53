"""Going round again: what a second round is made of, killed, and by people."""

import dataclasses
import json
import math
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
from rlhf_jax.pipeline.rounds import online_rounds, rounds
from rlhf_jax.registry import load_reward
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
    with pytest.raises(InputError, match="no stage dpo; there are world"):
        online_rounds(tiny_rounds.one_round(), 2)


def test_online_dpo_goes_on_from_its_policy_and_keeps_its_reference():
    first = tiny_rounds.one_online_round()
    made = online_rounds(first, 3, candidates="answers")
    assert list(made)[6:] == ["answers_2", "dpo_2", "answers_3", "dpo_3"]
    assert [made[f"answers_{n}"].policies for n in (2, 3)] == [
        ("@dpo/model",),
        ("@dpo_2/model",),
    ]
    assert made["answers_3"].round == 3
    assert made["answers_3"].reward == "@reward/model"
    assert made["dpo_3"].init == "@dpo_2/model"
    assert made["dpo_3"].reference == made["dpo"].init == "@pretrain/model"
    assert made["dpo_3"].rankings == ("@answers_3/rankings.jsonl",)
    assert online_rounds(first, 1, candidates="answers") == first
    for config in made.values():
        assert not list(config.problems() if hasattr(config, "problems") else ())


def test_an_online_round_without_a_reference_and_by_other_labelers():
    first = tiny_rounds.one_online_round()
    first["dpo"] = dataclasses.replace(first["dpo"], loss="simpo")
    made = online_rounds(first, 2, candidates="answers", labelers="file:people.jsonl")
    assert made["dpo_2"].reference == ""
    assert made["answers_2"].labelers == "file:people.jsonl"
    assert not list(made["answers_2"].problems())


def test_each_round_goes_on_with_the_next_prompts():
    rows = [Prompt(id=str(i), prompt="p") for i in range(7)]

    def ids(number, most):
        config = candidates.Config(("p",), ("q",), max_prompts=most, round=number)
        return "".join(row.id for row in candidates.prompts_of_round(config, rows))

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


def test_a_reward_model_ranks_the_answers_of_each_online_round(before_round_two):
    workdir = before_round_two
    run_experiment(tiny_rounds.online(2), workdir, say=lambda _: None)
    first, second = (rankings_of(workdir / n) for n in ("answers", "answers_2"))
    assert {row.labeler for row in first + second} == {"reward:model"}
    assert {len(row.responses) for row in first + second} == {2}
    assert {row.id for row in first}.isdisjoint(row.id for row in second)
    reward = load_reward(workdir / "reward/model", max_prompt=48, max_response=12)
    for row in second:
        scores = reward.score([row.prompt] * 2, row.responses)
        assert (scores[0] > scores[1]) == (row.ranks[0] < row.ranks[1])
    assert any(row.ranks != [1, 1] for row in second)
    assert bits(workdir / "dpo/model") != bits(workdir / "dpo_2/model")
    # the reference is that of round 1: in round 2 the policy has left it
    assert lines(workdir / "dpo")[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert lines(workdir / "dpo_2")[0]["loss"] != pytest.approx(math.log(2), abs=1e-6)


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

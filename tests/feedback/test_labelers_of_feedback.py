"""Labelers behind one interface: people in files, simulated persons, the gold one."""

import json

import pytest

from rlhf_jax.data import Prompt, Ranking
from rlhf_jax.errors import InputError
from rlhf_jax.feedback import (
    FileLabeler,
    RewardLabeler,
    load_labelers,
    rankings_by,
)
from rlhf_jax.registry import as_reward
from rlhf_jax.simulation import make_prompt, make_user, make_world, utility
from rlhf_jax.simulation.dice import Dice

PROMPT = Prompt(id="1", prompt="p")


@pytest.fixture(scope="module")
def question():
    """A prompt of the embedded world; others have no gold utility."""
    return make_prompt(make_world(0), make_user(0, 0), Dice("test"), "1")


def people(path, *rows):
    path.write_text("".join(row.model_dump_json() + "\n" for row in rows))
    return FileLabeler(path)


def test_people_are_asked_by_text_whatever_the_order(tmp_path):
    row = Ranking(id="1", prompt="p", responses=["a", "b", "c"], ranks=[2, 1, 2])
    labeler = people(tmp_path / "f.jsonl", row)
    assert labeler.rank(PROMPT, ["b", "c", "a"]) == [1, 2, 2]
    assert labeler.missing([PROMPT], [["c", "b", "a"]]) == 0
    assert not labeler.todo.exists()


def test_every_persons_ranking_is_kept_with_all_that_they_said(tmp_path):
    ann = Ranking(
        id="x",
        prompt="p",
        responses=["a", "b", "a"],
        ranks=[1, 2, 3],
        likert=[7, 4, 2],
        flags=[{"harmful": False}, {"harmful": True}, {}],
        shown_order=[2, 0, 1],
        labeler="ann",
        seconds=12.5,
        guideline="v2",
    )
    bob = Ranking(id="y", prompt="p", responses=["b", "a", "a"], ranks=[1, 2, 2])
    labeler = people(tmp_path / "f.jsonl", ann, bob)
    first, second = rankings_by(labeler, PROMPT, ["b", "a", "a"])
    assert (first.id, first.labeler, first.seconds, first.guideline) == (
        "1",
        "ann",
        12.5,
        "v2",
    )
    assert (first.ranks, first.likert) == ([2, 1, 3], [4, 7, 2])
    assert first.flags == [{"harmful": True}, {"harmful": False}, {}]
    assert first.shown_order == [2, 1, 0]  # the second a, the first a, b
    assert (second.id, second.labeler, second.ranks) == ("1#2", "people", [1, 2, 2])
    assert second.split_key == first.split_key == "1"


def test_what_nobody_ranked_is_written_down_once(tmp_path):
    labeler = FileLabeler(tmp_path / "f.jsonl")
    for _ in range(2):
        assert labeler.missing([PROMPT], [["a", "é"]]) == 1
    rows = [json.loads(line) for line in labeler.todo.read_text("utf-8").splitlines()]
    assert rows == [{"id": "1", "prompt": "p", "responses": ["a", "é"]}]
    with pytest.raises(InputError, match="no ranking of the responses to 1"):
        labeler.rank(PROMPT, ["a", "é"])


def test_a_file_of_something_else_is_refused(tmp_path):
    file = tmp_path / "f.jsonl"
    file.write_text(json.dumps({"id": "x", "prompt": "p", "response": "r"}) + "\n")
    with pytest.raises(InputError, match="x is not a ranking"):
        FileLabeler(file)


def test_the_gold_labeler_ranks_by_utility_and_ties_what_is_equal(question):
    (gold,) = load_labelers("simulated:gold")
    responses = ["Yes.", "", "Yes.", "no no no no"]
    ranks = gold.rank(question, responses)
    totals = [utility(question, text).total for text in responses]
    assert ranks[0] == ranks[2]
    for i, a in enumerate(totals):
        for j, b in enumerate(totals):
            assert (a > b) == (ranks[i] < ranks[j])
    assert min(ranks) == 1 and max(ranks) == len(set(totals))


@pytest.mark.parametrize("group", ["training", "held_out"])
def test_simulated_persons_answer_the_same_when_asked_again(question, group):
    once, again = (load_labelers(f"simulated:{group}", seed=3) for _ in range(2))
    names = [labeler.name for labeler in once]
    assert len(set(names)) == len(names)
    for a, b in zip(once, again, strict=True):
        ranks = a.rank(question, ["Yes.", "No.", "Maybe it is."])
        assert ranks == b.rank(question, ["Yes.", "No.", "Maybe it is."])
        assert min(ranks) == 1


def test_training_and_held_out_labelers_are_other_persons():
    groups = [load_labelers(f"simulated:{name}") for name in ("training", "held_out")]
    assert not {x.name for x in groups[0]} & {x.name for x in groups[1]}


@pytest.mark.parametrize("name", ["", "file:", "simulated:", "simulated:x", "model:x"])
def test_an_unknown_labeler_is_refused_with_what_there_is(name):
    with pytest.raises(InputError, match="simulated:held_out"):
        load_labelers(name)


def test_a_reward_ranks_many_sets_at_once_and_ties_equal_scores():
    asked = []

    def length(prompts, responses, records):
        asked.append([record["id"] for record in records])
        return [len(text) for text in responses]

    labeler = RewardLabeler(as_reward(length))
    other = Prompt(id="2", prompt="q")
    sets = [["a", "ccc", "bb", "d"], ["x", "yy"]]
    assert labeler.rank_all([PROMPT, other], sets) == [[3, 1, 2, 3], [2, 1]]
    assert asked == [["1"] * 4 + ["2"] * 2]
    assert labeler.rank(PROMPT, ["a", "bb"]) == [2, 1]
    assert labeler.name == "reward:length"


def test_a_response_without_a_score_cannot_be_ranked():
    labeler = RewardLabeler(as_reward(lambda prompts, responses: [1.0, float("nan")]))
    with pytest.raises(InputError, match=r"no score for 1 of 2 .* the prompt 1: exp"):
        labeler.rank(PROMPT, ["a", "b"])

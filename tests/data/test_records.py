"""The four records: what they accept, and what they refuse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rlhf_jax.data import Demonstration, Message, Prompt, Ranking
from rlhf_jax.data.readers import read
from rlhf_jax.data.records import (
    competition_ranks,
    dense_ranks,
    stable_id,
    untied_pairs,
)


def ranking(**fields):
    given = {"id": "1", "prompt": "p", "responses": ["a", "b", "c"], "ranks": [1, 2, 3]}
    return Ranking(**{**given, **fields})


@pytest.mark.parametrize(
    "ranks", [[1, 2, 3], [3, 1, 2], [1, 2, 2], [1, 1, 2], [1, 1, 3]]
)
def test_dense_and_competition_ranks_are_accepted(ranks):
    assert ranking(ranks=ranks).ranks == ranks


@pytest.mark.parametrize(
    ("ranks", "hint"),
    [([1, 3, 3], "[1, 2, 2]"), ([0, 1, 2], "[1, 2, 3]"), ([-1, 1, 1], "[1, 2, 2]")],
)
def test_gaps_and_other_counts_are_refused_with_the_normalised_form(ranks, hint):
    with pytest.raises(ValidationError, match="the same order is written") as caught:
        ranking(ranks=ranks)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"ranks": [1, 2]},
        {"ranks": [1.0, 2, 3]},
        {"ranks": [True, 2, 3]},
        {"ranks": "123"},
        {"responses": ["a"], "ranks": [1]},
        {"likert": [1, 2]},
        {"likert": [1, 2, 8]},
        {"shown_order": [0, 1, 1]},
        {"seconds": float("nan")},
        {"prompt": " \n"},
        {"prompt": "\ud800"},
        {"prompt": 7},
        {"unknown": 1},
    ],
)
def test_a_ranking_that_contradicts_itself_is_refused(fields):
    with pytest.raises(ValidationError):
        ranking(**fields)


def test_an_empty_response_is_allowed_in_a_ranking_but_not_as_a_demonstration():
    assert ranking(responses=["", "b", "c"]).responses[0] == ""
    with pytest.raises(ValidationError):
        Demonstration(id="1", prompt="p", response=" ")


def test_a_tie_leaves_no_pair_and_all_tied_leaves_none_at_all():
    assert ranking(ranks=[1, 1, 2]).pairs == [(0, 2), (1, 2)]
    assert ranking(ranks=[1, 1, 1]).pairs == []


def test_the_split_key_is_the_group_then_the_user_then_the_id():
    row = {"id": "i", "prompt": "p", "response": "r"}
    assert Demonstration(**row).split_key == "i"
    assert Demonstration(**row, user="u").split_key == "u"
    assert Demonstration(**row, user="u", group="g").split_key == "g"


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=9))
def test_both_styles_of_ranks_keep_the_order_and_the_ties(ranks):
    dense, competition = dense_ranks(ranks), competition_ranks(ranks)
    assert untied_pairs(dense) == untied_pairs(ranks) == untied_pairs(competition)
    assert min(dense) == min(competition) == 1
    assert sorted(set(dense)) == list(range(1, len(set(ranks)) + 1))


def test_a_stable_id_depends_on_the_parts_and_their_borders():
    assert stable_id("ab", "c") == stable_id("ab", "c") != stable_id("a", "bc")


SYSTEM = {"role": "system", "content": "Be brief."}
ASKED = {"role": "user", "content": "p"}
ANSWERED = {"role": "assistant", "content": "r"}


def test_a_conversation_stands_beside_prompt_and_response():
    given = {"id": "1", "prompt": "p", "response": "r"}
    row = Demonstration.model_validate(
        {**given, "messages": [SYSTEM, ASKED, {**ANSWERED, "weight": 1}]}
    )
    assert [turn.role for turn in row.messages] == ["system", "user", "assistant"]
    assert row.messages[-1].weight == 1.0
    assert Demonstration.model_validate_json(row.model_dump_json()) == row
    assert ranking(messages=[SYSTEM, ASKED]).messages[1].content == "p"


@pytest.mark.parametrize(
    ("turns", "why"),
    [
        ([], "the assistant's is the last"),
        ([ASKED], "the assistant's is the last"),
        ([ANSWERED], "the assistant's is the last"),
        ([ASKED, {**ANSWERED, "content": "x"}], "the last turn to be the response"),
        ([{**ASKED, "role": "ghost"}, ANSWERED], "'system', 'user', 'assistant'"),
        ([{**ASKED, "content": "a\0"}, ANSWERED], "NUL"),
        ([{**ASKED, "content": None}, ANSWERED], "valid string"),
        ([ASKED, {**ANSWERED, "weight": -1}], "greater than or equal to 0"),
        ([{**ASKED, "mood": "x"}, ANSWERED], "mood"),
    ],
)
def test_a_conversation_that_fits_no_demonstration_is_refused(turns, why):
    with pytest.raises(ValidationError, match=why):
        Demonstration(id="1", prompt="p", response="r", messages=turns)


@pytest.mark.parametrize("turns", [[], [ASKED, ANSWERED]])
def test_before_a_prompts_response_the_assistant_is_to_speak(turns):
    with pytest.raises(ValidationError, match="wait for the assistant"):
        Prompt(id="1", prompt="p", messages=turns)
    with pytest.raises(ValidationError, match="wait for the assistant"):
        ranking(messages=turns)


def test_a_turn_with_calls_of_tools_has_them_in_its_text():
    turn = Message(role="assistant", content="Look:", tool_calls='[{"name": "f"}]')
    assert turn.text == 'Look:\n[{"name": "f"}]'


def test_a_record_with_all_its_fields_written_out_is_read_as_it_was(tmp_path):
    turns = [Message(role="user", content="p"), Message(role="assistant", content="r")]
    for record in (
        Prompt(id="1", prompt="p", meta={"a": 1}),
        Prompt(id="1", prompt="p", meta={"a": 1}, messages=turns[:1]),
        Demonstration(id="1", prompt="p", response="r", meta={"a": 1}),
        Demonstration(id="1", prompt="p", response="r", messages=turns),
    ):
        path = tmp_path / "rows.jsonl"
        path.write_text(record.model_dump_json() + "\n")
        assert list(read(path)) == [record]

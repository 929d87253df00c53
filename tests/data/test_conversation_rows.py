"""Conversations of other people, and fields that change what a row means."""

import json

import pytest

from rlhf_jax.data import Demonstration, Prompt, Ranking
from rlhf_jax.data.readers import detect_format, read
from rlhf_jax.data.rows import Intake
from rlhf_jax.errors import InputError


@pytest.fixture
def read_rows(tmp_path):
    """Writes values as JSONL and reads them; the format is found, not told."""

    def made(*values, format="auto", intake=None):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(value) + "\n" for value in values))
        return list(read(path, format, intake=intake))

    return made


def turn(role, content, **fields):
    return {"role": role, "content": content, **fields}


ASK, SAY, ALSO = turn("user", "Hue?"), turn("assistant", "Blue."), turn("user", "Why?")
SYSTEM = turn("system", "Be brief.")
NO = turn("assistant", "Green.")


def steered(prompt, response, helpfulness, **fields):
    return {
        "prompt": prompt,
        "response": response,
        "helpfulness": helpfulness,
        "verbosity": 1,
        **fields,
    }


def shared(*turns, **fields):
    return {"conversations": [{"from": w, "value": v} for w, v in turns], **fields}


def test_sharegpt_conversations_are_demonstrations(read_rows):
    intake = Intake()
    talk = [("human", "Hi"), ("gpt", "Ho"), ("human", "2+2?"), ("gpt", "4")]
    rows = read_rows(
        shared(*talk, id="x", system="Be brief."),
        shared(("gpt", "…"), *talk, ("human", "Thanks")),
        shared(("system", "Be brief."), ("human", "Hi")),
        shared(),
        intake=intake,
    )
    first, second, third = rows
    assert first.response == second.response == "4" and first.id == "x"
    assert [m.role for m in first.messages][:2] == ["system", "user"]
    assert len(second.messages) == 4 and isinstance(third, Prompt)
    assert intake.left == {"empty conversation": 1}
    assert {k.partition(":")[0] for k in intake.warnings} == {
        "conversation that begins with an answer",
        "conversation that ends without an answer",
    }


def test_sharegpt_with_chosen_and_rejected_is_a_ranking(read_rows):
    last = {side: {"from": "gpt", "value": side} for side in ("chosen", "rejected")}
    (row,) = read_rows(shared(("human", "Hi"), **last))
    assert row.prompt == "Hi" and row.responses == ["chosen", "rejected"]


def flat(name, parent, role, text, rank=None, **fields):
    row = {"message_id": name, "parent_id": parent, "role": role, "text": text}
    return {**row, "message_tree_id": name[0], "rank": rank, **fields}


FLAT = [
    flat("t1", None, "prompter", "Hi"),
    flat("t3", "t1", "assistant", "best", 0.0),
    flat("u1", None, "prompter", "Yo"),
    flat("t2", "t1", "assistant", "second", 1.0),
    flat("t4", "t3", "prompter", "More?"),
    flat("t5", "t4", "assistant", "Yes."),
    flat("t6", "t1", "assistant", "machine", 2, synthetic=True),
]


def test_flat_messages_form_trees(read_rows):
    intake = Intake()
    (row,) = read_rows(*FLAT, intake=intake)
    assert row.responses == ["best", "second"] and row.ranks == [1, 2]
    assert (row.id, row.group) == ("t1", "t") and intake.rows == 7
    best = read_rows(*FLAT, format="oasst-flat-demonstrations")
    assert [d.response for d in best] == ["best", "Yes."]
    assert [m.content for m in best[1].messages] == ["Hi", "best", "More?", "Yes."]
    prompts = read_rows(*FLAT, format="oasst-flat-prompts")
    assert [p.prompt for p in prompts] == ["Hi", "Yo"]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([FLAT[1]], ":1: parent_id: no message of the tree has it: 't1'"),
        ([FLAT[0], FLAT[0]], "message_id: occurs more than once in tree 't'"),
        ([FLAT[0], flat("t9", "", "prompter", "?")], "expected one root in a tree"),
        ([flat("t1", "t1", "prompter", "?")], "expected one root in a tree, got 0"),
    ],
)
def test_messages_that_form_no_tree_are_refused(read_rows, rows, why):
    with pytest.raises(InputError) as caught:
        read_rows(*rows)
    assert why in str(caught.value)


def test_alpaca_has_its_system_prompt_and_history_before_the_question(read_rows):
    row = {"instruction": "And times three?", "input": "", "output": "12"}
    pairs = [["2+2?", "4"]]
    (found,) = read_rows({**row, "system": "Digits only.", "history": pairs})
    assert [m.role for m in found.messages] == [
        "system", "user", "assistant", "user", "assistant",
    ]  # fmt: skip
    assert found.response == "12" and "\n\nSystem: Digits only." in found.prompt
    (plain,) = read_rows({**row, "system": "", "history": []})
    assert plain.prompt == "And times three?" and plain.messages is None
    (spoken,) = read_rows({**row, "history": [ASK, SAY]})
    assert [m.content for m in spoken.messages][:2] == ["Hue?", "Blue."]
    with pytest.raises(InputError, match=r"history\[0\]: expected a pair, got 1"):
        read_rows({**row, "history": [["2+2?"]]})


def test_alpaca_with_chosen_and_rejected_is_a_ranking(read_rows):
    row = {"instruction": "Add.", "input": "1 2", "chosen": "3", "rejected": "4"}
    (found,) = read_rows({**row, "system": "Digits only."})
    assert isinstance(found, Ranking) and found.responses == ["3", "4"]
    assert [m.content for m in found.messages] == ["Digits only.", "Add.\n\n1 2"]


def test_the_text_of_parts_is_joined_and_other_parts_are_refused(read_rows):
    parts = [{"type": "text", "text": "Hu"}, {"type": "text", "text": "e?"}, "!"]
    (row,) = read_rows({"messages": [turn("user", parts), SAY]})
    assert row.prompt == "Hue?!"
    parts[1] = {"type": "image_url", "image_url": "x"}
    with pytest.raises(InputError) as caught:
        read_rows({"messages": [turn("user", parts), SAY]})
    assert "messages[0].content[1]: expected a part of type text" in str(caught.value)
    assert "image_url" in str(caught.value)


def test_calls_of_tools_are_text_of_the_turn(read_rows):
    call = {"type": "function", "function": {"name": "add", "arguments": "{}"}}
    talk = [
        ASK,
        turn("assistant", None, tool_calls=[call]),
        turn("tool", "4", tool_call_id="1", name="add"),
        turn("assistant", "It is 4.", tool_calls=None),
    ]
    (row,) = read_rows({"messages": talk})
    assert json.loads(row.messages[1].tool_calls) == [call]
    assert row.messages[2].role == "tool" and row.messages[2].name == "add"
    assert '"name": "add"' in row.prompt and row.response == "It is 4."


def test_weights_of_turns_are_kept(read_rows):
    (row,) = read_rows(
        {"messages": [ASK, turn("assistant", "No.", weight=0), ALSO, SAY]}
    )
    assert [m.weight for m in row.messages] == [None, 0.0, None, None]
    with pytest.raises(InputError, match=r"messages\[1\].weight: expected a number"):
        read_rows({"messages": [ASK, turn("assistant", "No.", weight="x")]})


def test_the_answers_of_a_prompt_are_given_and_those_of_a_completion_trained(read_rows):
    (row,) = read_rows(
        {"prompt": [ASK, SAY, ALSO], "completion": [NO, ALSO, turn("assistant", "Ok.")]}
    )
    assert [m.weight for m in row.messages] == [None, 0.0, None, None, None, None]
    assert row.response == "Ok."


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "Hue?", "completion": "Blue."}, ["Be brief.", "Hue?"]),
        ({"prompt": [ASK], "completion": [SAY]}, ["Be brief.", "Hue?"]),
        ({"prompt": "Hue?"}, ["Be brief.", "Hue?"]),
        ({"messages": [ASK, SAY]}, ["Be brief.", "Hue?"]),
        ({"prompt": [ASK], "chosen": [SAY], "rejected": [NO]}, ["Be brief.", "Hue?"]),
        ({"messages": [ASK], "chosen": "a", "rejected": "b"}, ["Be brief.", "Hue?"]),
        ({"chosen": [ASK, SAY], "rejected": [ASK, NO]}, ["Be brief.", "Hue?"]),
        ({"input": "Hue?", "chosen": "a", "rejected": "b"}, ["Be brief.", "Hue?"]),
        ({"conversation": [ASK, SAY]}, ["Be brief.", "Hue?"]),
    ],
)
def test_a_rows_system_prompt_stands_before_its_turns(read_rows, row, said):
    (found,) = read_rows({**row, "system": "Be brief."})
    assert [m.content for m in found.messages][:2] == said
    assert found.messages[0].role == "system"
    with pytest.raises(InputError, match="expected one system prompt"):
        read_rows({"messages": [SYSTEM, ASK], "system": "Be long."})


def test_a_history_stands_before_a_prompt_that_is_text(read_rows):
    row = {"prompt": "a", "completion": "b", "history": [["c", "d"]]}
    assert [m.content for m in read_rows(row)[0].messages] == ["c", "d", "a", "b"]
    with pytest.raises(InputError, match="history: expected a prompt that is text"):
        read_rows({**row, "prompt": [ASK]})


def test_several_rejected_texts_are_tied_behind_the_chosen_one(read_rows):
    (row,) = read_rows({"prompt": "p", "chosen": "a", "rejected": ["b", "c"]})
    assert row.responses == ["a", "b", "c"] and row.ranks == [1, 2, 2]


def test_names_that_are_numbers_are_names(read_rows):
    (row,) = read_rows({"id": 5, "prompt": "p", "response": "r", "user": 7})
    assert (row.id, row.user) == ("5", "7")


def test_responses_without_their_rank_or_score_are_left_out_and_noted(read_rows):
    intake = Intake()
    ranks = {"a": 2, "b": None, "c": "1"}
    answers = [{"answer": text, "rank": rank} for text, rank in ranks.items()]
    (row,) = read_rows({"prompt": "p", "answers": answers}, intake=intake)
    assert row.responses == ["a", "c"] and row.ranks == [2, 1]
    some = [steered("p", "a", 1), steered("p", "b", None), steered("p", "c", "2")]
    (row,) = read_rows(*some, intake=intake)
    assert row.responses == ["a", "c"] and row.ranks == [2, 1]
    assert dict(intake.warnings) == {
        "answer without a rank": 1,
        "response without its helpfulness": 1,
    }


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"prompt": "a", "response_0": "b", "response_1": "c"}, "response_0"),
        ({"prompt": "a", "label": "b"}, "label"),
        ({"messages": [ASK, SAY], "history": [["c", "d"]]}, "history"),
        ({"messages": [ASK, SAY], "rejected_response": "c"}, "rejected_response"),
        ({"instruction": "a", "response": "b", "weight": 0.5}, "weight"),
        ({"instruction": "a", "output": "b", "rejected": "c"}, "rejected"),
        ({"question": "a", "answer": "b\n#### 1", "system": "x"}, "system"),
        ({"prompt": "a", "response": "b", "score": 0.1}, "score"),
        ({"prompt": "a", "response": "b", "system": "x"}, "system"),
        ({"prompt": "a", "completion": "b", "winner": "x"}, "winner"),
        ({"prompt": "a", "completion": "b", "score": 3}, "score"),
        ({"prompt": "a", "output": "b"}, "output"),
        ({"prompt": "a", "response": "b", "label": False}, "label"),
        ({"messages": [ASK, SAY], "tools": [{"name": "f"}]}, "tools"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "margin": 2}, "margin"),
        ({"conversations": [{"from": "human", "value": "a"}], "weight": 0}, "weight"),
        ({"instruction": "a", "instances": [], "history": [["a", "b"]]}, "history"),
    ],
)
def test_a_field_that_changes_the_meaning_is_refused_once(read_rows, row, field):
    """Read without it, the row would say something else."""
    with pytest.raises(InputError) as caught:
        read_rows(row, row, row)
    said = str(caught.value)
    assert f"rows.jsonl:1: {field}: changes what the row means" in said
    assert "#map:" in said and said.count("rows.jsonl") == 1


@pytest.mark.parametrize("nothing", [None, "", [], {}])
def test_a_field_without_a_value_changes_nothing(read_rows, nothing):
    row = {"instruction": "a", "response": "b", "weight": 1, "tools": nothing}
    (found,) = read_rows({**row, "rejected": nothing, "system": nothing})
    assert found.response == "b" and found.messages is None


def test_a_row_with_such_a_field_among_others_is_told_by_its_line(read_rows):
    row = {"instruction": "a", "response": "b"}
    with pytest.raises(InputError, match="rows.jsonl:2: weight: changes"):
        read_rows(row, {**row, "weight": 2})


def test_a_table_without_the_columns_has_one_message(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("frage,antwort\n" + "a,b\n" * 50)
    for format in ("auto", "alpaca", "trl", "csv", "ultrafeedback"):
        with pytest.raises(InputError) as caught:
            list(read(path, format))
        said = str(caught.value)
        assert said.count("a.csv") == 1 and "\n" not in said
        assert "frage, antwort" in said or "antwort, frage" in said
    assert "no known format" in str(
        pytest.raises(InputError, detect_format, path).value
    )


def test_a_question_with_any_answer_is_not_taken_for_gsm8k(read_rows):
    with pytest.raises(InputError, match="no known format has these columns"):
        read_rows({"question": "a", "answer": "b"})


def test_records_with_conversations_survive_their_own_format(read_rows, tmp_path):
    from rlhf_jax.data.writers import write_csv, write_jsonl, write_trl

    rows = read_rows(
        {"messages": [SYSTEM, ASK, SAY, ALSO, turn("assistant", "Air.", weight=0.5)]},
        {"prompt": [ASK, SAY, ALSO], "chosen": [SAY], "rejected": [NO]},
        {"messages": [SYSTEM, ASK]},
        format="trl",
    )
    assert [type(row) for row in rows] == [Demonstration, Ranking, Prompt]
    path = tmp_path / "own.jsonl"
    for write, name in ((write_jsonl, "own.jsonl"), (write_csv, "own.csv")):
        write(tmp_path / name, rows)
        assert list(read(tmp_path / name)) == rows, name
    write_trl(path, rows, conversational=True)
    assert list(read(path)) == rows


def test_messages_that_older_files_have_in_meta_are_read(read_rows):
    own = {"id": "1", "prompt": "Hue?", "response": "Blue.", "user": "u"}
    (row,) = read_rows({**own, "meta": {"messages": [ASK], "language": "en"}})
    assert [m.content for m in row.messages] == ["Hue?", "Blue."]
    assert row.meta == {"language": "en"}

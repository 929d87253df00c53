"""`FILE#map:...`: any columns as records, and errors that name the columns."""

import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.cli import main
from rlhf_jax.data import Demonstration, Prompt, Ranking, Text
from rlhf_jax.data.inputs import read_rows
from rlhf_jax.data.readers import read
from rlhf_jax.data.readers.choices import ranks_of_choice
from rlhf_jax.data.readers.column_map import TARGETS, parsed_map
from rlhf_jax.data.rows import Intake, RowError
from rlhf_jax.errors import InputError


@pytest.fixture
def mapped(tmp_path):
    """Reads values by a map, as JSONL."""

    def made(map, *values, intake=None):
        path = tmp_path / "a.jsonl"
        path.write_text("".join(json.dumps(v) + "\n" for v in values))
        return list(read(f"{path}#map:{map}", intake=intake))

    return made


def test_a_map_reads_a_table_of_unknown_columns(tmp_path):
    path = tmp_path / "duels.csv"
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer_a", "answer_b", "label"])
        writer.writerow(["Hue?", "Blue.", "Green.", "answer_b"])
        writer.writerow(["Why?", "Air.", "Sea.", "tie"])
    files = (f"{path}#map:prompt=question,responses=[answer_a,answer_b],best=label",)
    first, second = read_rows(files, Ranking)
    assert (first.prompt, first.responses) == ("Hue?", ["Blue.", "Green."])
    assert first.ranks == [2, 1] and second.ranks == [1, 1]
    assert first.id == "duels.csv:2"


DEEP = {
    "q": {"text": "Hue?"},
    "out": [{"t": "A", "s": 1}, {"t": "B", "s": "3.5"}, {"t": "C", "s": None}],
    "a.b": "dotted",
    "x, y": "odd",
    "größe": "groß",
}


def test_paths_lead_into_fields_and_lists(mapped):
    intake = Intake()
    (row,) = mapped(
        "prompt=q.text,responses=out.*.t,scores=out.*.s", DEEP, intake=intake
    )
    assert row.responses == ["A", "B"] and row.ranks == [2, 1]
    assert intake.warnings["response that is absent or has no rank"] == 1
    (row,) = mapped("prompt=q.text,response=out.-1.t", DEEP)
    assert row.response == "C"


def test_any_column_can_be_named(mapped):
    (row,) = mapped('prompt=a.b,response="x, y",user=größe', DEEP)
    assert (row.prompt, row.response, row.user) == ("dotted", "odd", "groß")


ROW = {
    "q": "Hue?", "a": "Blue.", "b": "Green.", "n": 7, "told": "Be brief.",
    "past": [["Hi", "Ho"]], "order": [2, 1], "list": ["x", "y", "z"],
    "talk": [
        {"role": "user", "content": "Hue?"}, {"role": "assistant", "content": "B"},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("map", "kind", "expected"),
    [
        ("text=a", Text, {"text": "Blue."}),
        ("prompt=q", Prompt, {"prompt": "Hue?"}),
        ("prompt=q,id=n", Prompt, {"id": "7"}),
        ("prompt=q,response=a,source=b", Demonstration, {"source": "Green."}),
        ("messages=talk", Demonstration, {"prompt": "Hue?", "response": "B"}),
        ("messages=talk,system=told", Demonstration, {"response": "B"}),
        ("prompt=q,chosen=b,rejected=a", Ranking, {"responses": ["Green.", "Blue."]}),
        ("prompt=q,responses=[a,b],ranks=order", Ranking, {"ranks": [2, 1]}),
        ("prompt=q,responses=[a,b],ranks=[n,n]", Ranking, {"ranks": [1, 1]}),
        (" prompt = q , response = a ", Demonstration, {"response": "Blue."}),
        ("prompt=q,history=past,response=a", Demonstration, {"response": "Blue."}),
    ],
)
def test_targets_make_the_record_that_they_tell(mapped, map, kind, expected):
    (row,) = mapped(map, ROW)
    assert type(row) is kind
    assert {name: getattr(row, name) for name in expected} == expected


def test_system_prompt_and_history_stand_before_the_prompt(mapped):
    (row,) = mapped("prompt=q,system=told,history=past,response=a", ROW)
    said = ["Be brief.", "Hi", "Ho", "Hue?", "Blue."]
    assert [m.content for m in row.messages] == said
    (bare,) = mapped("prompt=q,system=told,response=a", {**ROW, "told": None})
    assert bare.messages is None


@pytest.mark.parametrize(
    ("value", "best"),
    [
        (0, 0), (2, 2), ("1", 1), (1.0, 1), ("a", 0), ("B", 1), ("model_c", 2),
        ("col_b", 1), ("two", 1), ("three", 2), ("option_a", 0),
    ],
)  # fmt: skip
def test_best_may_be_a_place_a_letter_a_column_or_the_text(value, best):
    ranks = ranks_of_choice(
        value, ["one", "two", "three"], ["col_a", "col_b", "col_c.text"], "label"
    )
    assert ranks == [1 if i == best else 2 for i in range(3)]


@pytest.mark.parametrize("word", ["tie", "TIE", "both", "tie (bothbad)", "both_bad"])
def test_best_may_be_a_tie(word):
    assert ranks_of_choice(word, ["one", "two"], [], "label") == [1, 1]


@pytest.mark.parametrize("value", [None, "", "c", 2, -1, True, 0.5, "model_z", ["a"]])
def test_best_that_names_no_response_is_refused(value):
    with pytest.raises(RowError, match="^label: "):
        ranks_of_choice(value, ["one", "two"], [], "label")


def test_best_that_names_two_responses_is_refused():
    with pytest.raises(RowError, match="label: '0' names two responses"):
        ranks_of_choice("0", ["1", "0"], [], "label")


@pytest.mark.parametrize(
    ("map", "why"),
    [
        ("promt=q", "map: no target 'promt'; did you mean 'prompt'?"),
        ("prompt", "map: prompt: expected = and a column"),
        ("prompt=", "map: prompt: expected a column, got 'the end'"),
        ("prompt=q,", "expected a target behind the last comma"),
        ("prompt=q response=a", "map: prompt: expected a comma, got '='"),
        ("prompt=q,prompt=a", "map: prompt: occurs more than once"),
        ("prompt=q,responses=[a,b", "map: responses: expected ] behind 'b'"),
        ("prompt=q,responses=[]", "map: responses: expected a column, got ']'"),
        ("prompt=q..a", "map: prompt: expected a column, got '.'"),
        ("", "got none"),
        ("response=a", "prompt or messages, alone or with response"),
        ("prompt=q,responses=[a,b]", "with responses and one of ranks, scores, best"),
        ("prompt=q,responses=[a,b],best=n,ranks=n", "one of ranks, scores, best"),
        ("prompt=q,chosen=a", "with chosen and rejected"),
        ("text=a,prompt=q", "map: expected text;"),
        ("prompt=q,response=aa", "map: response: no column 'aa'"),
        ("prompt=frage,response=a", "there are q, a, b, n, told, past"),
        ("prompt=q,response=n", "a.jsonl:1: n: expected text, got int"),
        ("prompt=q,responses=list,best=n", "a.jsonl:1: n: '7' names no response"),
        ("prompt=q,responses=list,ranks=order", "a.jsonl:1: order: expected 3 entries"),
        ("prompt=q,responses=a,ranks=order", "a.jsonl:1: a: expected JSON in the cell"),
        ("prompt=q,response=talk.7.content", "talk.7.content: nothing at '7'"),
        ("prompt=q,response=talk.0.text", "nothing at 'text'; there are role, content"),
    ],
)  # fmt: skip
def test_a_map_that_does_not_fit_is_told_once(mapped, map, why):
    with pytest.raises(InputError) as caught:
        mapped(map, ROW)
    assert why in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_column_has_one_message_and_a_guess(mapped):
    with pytest.raises(InputError) as caught:
        mapped("prompt=qestion,response=a", *[{"question": "x", "a": "y"}] * 30)
    assert "no column 'qestion'; did you mean 'question'?" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_column_that_only_later_rows_have_is_found(mapped):
    rows = [{"q": "x", "a": "y"}, {"q": "x", "a": "y", "told": "Be brief."}]
    first, second = mapped("prompt=q,response=a,system=told", *rows)
    assert first.messages is None and second.messages[0].content == "Be brief."


def test_a_column_that_changes_the_meaning_and_is_not_named_is_a_warning(mapped):
    intake = Intake()
    mapped("prompt=q,response=a", {**ROW, "weight": 0.5}, intake=intake)
    assert dict(intake.warnings) == {"column 'weight' is not named by the map": 1}


def test_lists_may_stand_as_json_in_a_cell(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('q\tall\tby\nHue?\t["Blue.", "Green."]\t[0.1, 0.9]\n')
    (row,) = read(path, "map:prompt=q,responses=all,scores=by")
    assert row.responses == ["Blue.", "Green."] and row.ranks == [2, 1]
    (row,) = read(path, "map:prompt=q,response=all.1")
    assert row.response == "Green."


def test_the_same_words_work_on_the_command_line(tmp_path, capsys):
    path = tmp_path / "a#b.jsonl"
    path.write_text(json.dumps(ROW) + "\n")
    words = f"{path}#map:prompt=q,response=a"
    assert main(["data", "check", words]) == 0
    assert "Demonstration 1" in capsys.readouterr().out
    assert main(["data", "show", words, "0"]) == 0
    assert "B▏l▏u▏e" in capsys.readouterr().out
    assert main(["data", "check", f"{path}#map:prompt=p"]) == 2
    assert "no column 'p'" in capsys.readouterr().err


@given(st.text(alphabet='abpromt=,[]."*- \\', max_size=24))
def test_no_map_ends_in_a_traceback(text):
    try:
        found = parsed_map(text)
    except InputError as error:
        assert str(error).startswith("map: ")
    else:
        assert set(found) <= TARGETS

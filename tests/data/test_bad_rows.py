"""Bad rows: what goes in, what is said, exit code 2, nothing half-written."""

import csv
import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.cli import main
from rlhf_jax.data import Demonstration, Prompt, Ranking, Text, rows
from rlhf_jax.data.readers import FORMATS, read
from rlhf_jax.data.readers.told import REQUIRED
from rlhf_jax.data.rows import Intake
from rlhf_jax.errors import InputError

GOOD = {"id": "1", "prompt": "p", "responses": ["a", "b", "c"], "ranks": [1, 2, 3]}


def row(**fields) -> bytes:
    kept = {k: v for k, v in {**GOOD, **fields}.items() if v != "absent"}
    return json.dumps(kept).encode()


BAD = {
    "D1 missing field": (
        row(ranks="absent"),
        "ranks: missing, expected a list of whole numbers, one per response",
    ),
    "D1 no prompt": (row(prompt="absent"), "prompt: missing, expected a string"),
    "D1 no prompt nor id": (
        row(id="absent", prompt="absent", ranks=3),
        "prompt: missing, expected a string; ranks: expected a valid list",
    ),
    "D1 many problems": (row(responses=[1] * 7), "; and 3 more"),
    "D1 no kind": (b'{"id": "1"}', "prompt: missing, expected a string"),
    "D1 null id": (row(id=None), "id: expected a valid string"),
    "D2 prompt int": (row(prompt=3), "prompt: expected a valid string"),
    "D2 ranks string": (row(ranks="1,2,3"), "ranks: expected a valid list"),
    "D2 ranks float": (row(ranks=[1.0, 2.0, 3.0]), "ranks.0: expected a valid integer"),
    "D3 null prompt": (row(prompt=None), "prompt: expected a valid string"),
    "D3 empty prompt": (row(prompt=""), "prompt: expected text, got only white space"),
    "D3 white prompt": (row(prompt=" \t"), "prompt: expected text"),
    "D4 UTF-8": (b'{"id": "\xff"}', "expected UTF-8, byte 9 is 0xff"),
    "D5 truncated": (row()[:-5], "expected JSON: "),
    "D5 duplicate key": (b'{"id": "1", "id": "2"}', "id: key occurs more than once"),
    "D5 surrogate": (rb'{"id": "1", "prompt": "\ud800"}', "half of a surrogate pair"),
    "D5 deep": (b"[" * 100_000, "nested too deeply"),
    "D6 NaN": (b'{"id": "1", "prompt": "p", "seconds": NaN}', "NaN is no JSON number"),
    "D6 Infinity": (b'{"id": "1", "x": -Infinity}', "-Infinity is no JSON number"),
    "D6 overflow": (b'{"id": "1", "x": 1e999}', "expected a finite number, got 1e999"),
    "D8 lengths": (row(ranks=[1, 2]), "ranks: expected 3 entries, one per response"),
    "D9 K=1": (
        row(responses=["a"], ranks=[1]),
        "responses: expected at least 2, got 1",
    ),
    "D9 K=10": (
        row(responses=list("abcdefghij"), ranks=list(range(1, 11))),
        "responses: expected at most 9, got K = 10 (max_k)",
    ),
    "D10 gap": (row(ranks=[1, 3, 3]), "the same order is written [1, 2, 2]"),
    "D10 0-based": (row(ranks=[0, 1, 2]), "the same order is written [1, 2, 3]"),
    "D10 negative": (row(ranks=[-1, 1, 2]), "the same order is written [1, 2, 3]"),
    "D13 empty demonstration": (
        b'{"id": "1", "prompt": "p", "response": ""}',
        "response: expected text",
    ),
    "not an object": (b"[1, 2]", "expected an object, got list"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_told_by_file_line_and_field(name, tmp_path, capsys):
    bad, why = BAD[name]
    path, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    path.write_bytes(row() + b"\n" + bad + b"\n")
    code = main(["data", "convert", str(path), str(out), "--format", "jsonl"])
    said = capsys.readouterr().err
    assert code == 2
    assert f"{path}:2: " in said and why in said
    assert "Traceback" not in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rows.jsonl"]


def test_every_field_that_must_be_there_has_words_for_when_it_is_not():
    kinds = (Demonstration, Prompt, Ranking, Text)
    needed = {
        name
        for kind in kinds
        for name, field in kind.model_fields.items()
        if field.is_required()
    }
    assert needed == set(REQUIRED)


def test_quarantine_keeps_the_bad_row_with_its_reason(tmp_path):
    path, out, rejects = (tmp_path / n for n in ("in.jsonl", "out.jsonl", "no.jsonl"))
    path.write_bytes(row() + b"\n" + BAD["D10 gap"][0] + b"\n" + row(id="2") + b"\n")
    words = ["data", "convert", str(path), str(out), "--on-bad-row", "quarantine"]
    assert main([*words, "--rejects", str(rejects)]) == 0
    assert len(out.read_text().splitlines()) == 2
    (kept,) = map(json.loads, rejects.read_text().splitlines())
    assert (kept["line"], kept["field"]) == (2, "ranks")
    assert json.loads(kept["row"])["ranks"] == [1, 3, 3]


def test_skip_leaves_bad_rows_out_and_counts_them(tmp_path, capsys):
    path = tmp_path / "in.jsonl"
    path.write_bytes(row() + b"\n" + b"{\n" * 30)
    assert main(["data", "check", str(path), "--on-bad-row", "skip"]) == 0
    said = capsys.readouterr().out
    assert "rows: 31 read, 30 rejected; records: 1" in said
    assert "... and 10 more" in said


def test_an_error_lists_the_first_bad_rows_and_how_many_more(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"{\n" * 30)
    with pytest.raises(InputError) as caught:
        list(read(path))
    lines = str(caught.value).splitlines()
    assert len(lines) == 21 and lines[-1] == "... and 10 more bad rows"


def warnings(tmp_path, content: bytes) -> tuple[list, Intake]:
    path = tmp_path / "in.jsonl"
    path.write_bytes(content)
    intake = Intake()
    return list(read(path, intake=intake)), intake


def test_blank_lines_marks_and_crlf_are_warnings(tmp_path):
    content = b"\xef\xbb\xbf" + row() + b"\r\n\r\n" + row(id="2") + b"\n"
    records, intake = warnings(tmp_path, content)
    assert [r.id for r in records] == ["1", "2"]
    assert intake.warnings["byte order mark"] == 1
    assert intake.warnings["CRLF line end"] == 2
    assert intake.warnings["blank line"] == 1


def test_an_unknown_field_is_a_warning_with_its_place(tmp_path):
    records, intake = warnings(tmp_path, row(colour="red") + b"\n")
    assert len(records) == 1
    assert intake.first["unknown field 'colour'"].endswith("in.jsonl:1")


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"ranks": [1, 1, 1]}, "all responses tied"),
        ({"responses": ["a", "a", "b"]}, "same response, different ranks"),
        ({"responses": ["", "a", "b"]}, "empty response"),
    ],
)
def test_odd_rankings_are_kept_and_counted(tmp_path, fields, what):
    records, intake = warnings(tmp_path, row(**fields) + b"\n")
    assert len(records) == 1 and intake.warnings[what] == 1


def test_k_above_nine_is_accepted_when_asked_for(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(BAD["D9 K=10"][0])
    (record,) = read(path, max_k=10)
    assert len(record.responses) == 10


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_a_file_without_rows_is_refused(tmp_path, content):
    path = tmp_path / "in.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match="expected at least one row"):
        list(read(path))


def test_no_record_left_is_an_error(tmp_path, capsys):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"{\n")
    assert main(["data", "check", str(path), "--on-bad-row", "skip"]) == 2
    assert "no record is left" in capsys.readouterr().err


def test_a_line_without_end_is_refused_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "MAX_LINE", 1 << 16)
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb") as file:
        for _ in range(64):
            file.write(b" " * (1 << 20))
    with pytest.raises(InputError, match=r"bomb.jsonl.gz:1: expected a line under"):
        list(read(path))


@pytest.mark.parametrize("keep", [5, 20, 40])
def test_a_torn_gzip_file_is_refused_by_name(tmp_path, keep):
    path = tmp_path / "torn.jsonl.gz"
    path.write_bytes(gzip.compress(row() * 100)[:keep])
    with pytest.raises(InputError, match="torn.jsonl.gz:1: damaged"):
        list(read(path, "jsonl"))


def test_a_missing_file_and_an_unknown_format_are_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        list(read(tmp_path / "none.jsonl"))
    (tmp_path / "a.xml").write_text("<a/>")
    with pytest.raises(
        InputError, match=r"expected .jsonl, .json, .csv, .tsv, .parquet"
    ):
        list(read(tmp_path / "a.xml"))
    with pytest.raises(InputError, match="format: expected one of"):
        list(read(tmp_path / "a.xml", "xml"))


def test_splits_that_share_a_prompt_or_a_user_are_an_error(tmp_path, capsys):
    path = tmp_path / "in.jsonl"
    lines = [
        row(id="1", split="train", user="u"),
        row(id="2", split="valid", prompt="q", user="u"),
        row(id="3", split="test", prompt="P "),
        row(id="3", prompt="z"),
    ]
    path.write_bytes(b"\n".join(lines))
    assert main(["data", "check", str(path)]) == 2
    said = capsys.readouterr().out
    assert "id '2': user: in split 'valid', but the same user is in 'train'" in said
    assert "id '3': prompt: in split 'test'" in said
    assert "id '3': occurs more than once" in said


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)
KEYS = (
    "id prompt response responses ranks text chosen rejected completion messages label "
    "instruction input output instances question answer context fields ranking "
    "ranking-responses text_a text_b annotators file document questions metadata "
    "message_tree_id replies role content likert flags shown_order meta sentence "
    "message_id parent_id rank conversations from value system history completions "
    "overall_score answers winner model_a model_b conversation_a conversation_b "
    "response_a response_b preference_strength response_1 response_2 helpfulness "
    "human_ref_A human_ref_B labels weight score_chosen score_rejected tools"
).split()
shaped = st.dictionaries(st.sampled_from(KEYS), json_values | st.text(), max_size=8)


MAPS = [
    "map:prompt=prompt,responses=[answer,text],best=label",
    "map:messages=messages,system=system",
    "map:prompt=content.*.text,chosen=chosen,rejected=rejected.0,history=history",
    "map:prompt=prompt,responses=answers.*.answer,scores=answers.*.rank,id=id",
]


@pytest.mark.parametrize("format", [*sorted(FORMATS), *MAPS])
@given(data=st.data())
def test_no_file_ends_in_a_traceback(format, data, tmp_path_factory):
    """Any bytes, and rows that look almost right, are records or counted rejects."""
    lines = st.one_of(
        st.binary(max_size=60),
        shaped.map(lambda value: json.dumps(value).encode()),
        json_values.map(lambda value: json.dumps(value).encode()),
    )
    content = b"\n".join(data.draw(st.lists(lines, max_size=5)))
    if data.draw(st.booleans()):
        content = b"[" + content.replace(b"\n", b",\n") + b"]"
    path = tmp_path_factory.getbasetemp() / f"fuzz-{format.replace(':', '-')}.jsonl"
    path.write_bytes(content)
    intake = Intake("skip")
    try:
        made = list(read(path, format, intake=intake))
    except InputError as error:
        assert str(path) in str(error)
        return
    assert len(made) == intake.records
    for record in made:
        assert type(record).model_validate_json(record.model_dump_json()) == record


cells = st.sampled_from(["", "a", "1", "[1, 2]", '["a", "b"]', "{}", "'=", "1e999"])
columns = st.sampled_from(
    "id prompt response responses ranks responses_1 responses_2 ranks_1 ranks_2 text "
    "likert flags flags_1 meta seconds chosen rejected completion label colour".split()
)


@given(
    st.lists(columns, min_size=1, max_size=6, unique=True),
    st.lists(st.lists(cells | st.text(max_size=4), min_size=6, max_size=6), max_size=4),
)
def test_no_table_ends_in_a_traceback(tmp_path_factory, header, table):
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *(cells[: len(header)] for cells in table)])
    intake = Intake("skip")
    try:
        made = list(read(path, intake=intake))
    except InputError as error:
        assert str(path) in str(error)
        return
    for record in made:
        assert type(record).model_validate_json(record.model_dump_json()) == record


def test_a_fuzzed_ranking_that_is_accepted_has_consistent_lengths(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(row())
    (record,) = read(path)
    assert record == Ranking(**GOOD)

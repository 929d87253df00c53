"""Bad files end with file:line: field: why."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.suites.files import find_file, read_document, read_rows


def written(tmp_path, name, content):
    path = tmp_path / name
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,n\n"one, two",1\nthree,2\n'),
        ("a.csv.gz", 'text,n\n"one, two",1\nthree,2\n'),
        ("a.tsv", "text\tn\none, two\t1\nthree\t2\n"),
        ("a.jsonl", '{"text": "one, two", "n": 1}\n\n{"text": "three", "n": "2"}\n'),
        ("a.json", '[{"text": "one, two", "n": 1}, {"text": "three", "n": 2}]'),
    ],
)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, name, content):
    rows = read_rows(written(tmp_path, name, content), columns=("text", "n"))
    assert [(r.text("text"), r.number("n")) for r in rows] == [
        ("one, two", 1.0),
        ("three", 2.0),
    ]


def test_a_quoted_newline_does_not_shift_the_line_numbers(tmp_path):
    path = written(tmp_path, "a.csv", 'text,n\n"one\ntwo",1\nthree,x\n')
    rows = read_rows(path)
    assert [row.place.rsplit(":", 1)[1] for row in rows] == ["2", "4"]
    with pytest.raises(InputError, match=r"a.csv:4: n: expected a number, found 'x'"):
        rows[1].number("n")


def test_a_tsv_keeps_its_quotes(tmp_path):
    path = written(tmp_path, "a.tsv", 'sentence\tlabel\n"an open quote\t1\n')
    assert read_rows(path)[0].text("sentence") == '"an open quote'


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "text,n\none\n", r"a.csv:2: 1 cells where the header has 2"),
        ("a.csv", 'text,n\n"one,1\n', r"a.csv:\d+: "),
        ("a.csv", "", "has no rows"),
        ("a.csv", "text,n\n", "has no rows"),
        (
            "a.csv",
            "other,n\nx,1\n",
            r"a.csv:2: text: no such column; there are other, n",
        ),
        ("a.jsonl", '{"text": "x"}\n{"text": \n', r"a.jsonl:2: not JSON"),
        ("a.jsonl", "[1]\n", r"a.jsonl:1: expected an object, found list"),
        ("a.json", "{}", r"a.json:1: expected a list"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}\n', r"a.jsonl:2: is not UTF-8"),
        ("a.xlsx", "x", r"unknown file kind .xlsx"),
    ],
)
def test_malformed_files_are_told_with_their_line(tmp_path, name, content, told):
    with pytest.raises(InputError, match=told):
        read_rows(written(tmp_path, name, content), columns=("text",))


def test_a_damaged_gzip_file_is_told(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"text\nx\n" * 100)[:-9])
    with pytest.raises(InputError, match="gz"):
        read_rows(path)


def test_what_is_absent_is_told(tmp_path):
    with pytest.raises(InputError, match="none.csv: No such file"):
        read_rows(tmp_path / "none.csv")
    with pytest.raises(InputError, match="no such file or folder"):
        find_file(tmp_path / "none", ["a.csv"])
    with pytest.raises(InputError, match="holds none of a.csv, b.csv"):
        find_file(tmp_path, ["a.csv", "b.csv"])
    with pytest.raises(InputError, match=r"d.json:2: not JSON"):
        read_document(written(tmp_path, "d.json", '{"a":\n}'))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "t: missing; this row has nothing"),
        ({"t": None}, "t: missing"),
        ({"t": 3}, "t: expected text, found 3"),
        ({"t": "  "}, "t: is empty"),
    ],
)
def test_fields_that_are_no_text_are_told(tmp_path, fields, told):
    row = read_rows(written(tmp_path, "a.jsonl", json.dumps({**fields, "z": 1})))[0]
    with pytest.raises(InputError, match=told.replace("nothing", "z")):
        row.text("t")


@pytest.mark.parametrize("value", ["nan", "inf", "", "x", True, None, [1]])
def test_what_is_no_finite_number_is_refused(tmp_path, value):
    row = read_rows(written(tmp_path, "a.jsonl", json.dumps({"v": value, "z": 1})))[0]
    with pytest.raises(InputError, match="a.jsonl:1: v: "):
        row.number("v")


@given(st.binary(max_size=60), st.sampled_from([".csv", ".tsv", ".jsonl", ".json"]))
def test_no_bytes_at_all_end_in_anything_but_rows_or_an_input_error(
    tmp_path_factory, data, ending
):
    path = tmp_path_factory.mktemp("f") / f"a{ending}"
    path.write_bytes(data)
    try:
        rows = read_rows(path)
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert rows

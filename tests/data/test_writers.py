"""Round trips, formulas, and files that appear whole or not at all."""

import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.data import Demonstration, Prompt, Ranking, Text
from rlhf_jax.data.readers import read
from rlhf_jax.data.readers.formats import FORMATS
from rlhf_jax.data.records import dense_ranks
from rlhf_jax.data.rows import Row
from rlhf_jax.data.writers import (
    FORMULA,
    safe_cell,
    trl_pairs,
    write_csv,
    write_jsonl,
    write_trl,
)
from rlhf_jax.errors import InputError

answers = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
filled = answers.filter(str.strip)


@st.composite
def rankings(draw):
    k = draw(st.integers(2, 6))
    column = lambda item: st.none() | st.lists(item, min_size=k, max_size=k)  # noqa: E731
    return Ranking(
        id=draw(filled),
        prompt=draw(filled),
        responses=draw(st.lists(answers, min_size=k, max_size=k)),
        ranks=dense_ranks(draw(st.lists(st.integers(1, 4), min_size=k, max_size=k))),
        likert=draw(column(st.integers(1, 7))),
        flags=draw(column(st.dictionaries(filled, st.booleans(), max_size=2))),
        labeler=draw(st.none() | filled),
        shown_order=draw(st.none() | st.permutations(range(k))),
        seconds=draw(st.none() | st.floats(0, 1e6)),
        split=draw(st.sampled_from(["train", "valid", "test", None])),
        meta=draw(st.dictionaries(filled, st.integers() | filled, max_size=2)),
    )


@given(st.lists(rankings(), max_size=4, unique_by=lambda r: r.id))
def test_rankings_survive_own_jsonl_bit_for_bit(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "own.jsonl"
    write_jsonl(path, rows)
    assert rows == (list(read(path, "jsonl")) if rows else [])


@given(rankings())
def test_rankings_survive_trl_pairs_with_their_group(row):
    pairs = [json.loads(json.dumps(pair)) for pair in trl_pairs(row)]
    assert len(pairs) == len(row.pairs)
    trl = FORMATS["trl"]
    grouped = trl.group(Row("f", i, pair) for i, pair in enumerate(pairs, 1))
    back = [record for group in grouped for record in trl.convert(group)]
    assert back == ([row] if row.pairs else [])


def test_neighbouring_rankings_do_not_melt_together(tmp_path):
    rows = [
        Ranking(id=str(i), prompt="p", responses=["a", "b", "c"], ranks=[1, 2, 3])
        for i in range(3)
    ]
    assert write_trl(tmp_path / "a.jsonl", rows) == 9
    assert list(read(tmp_path / "a.jsonl")) == rows


def test_conversational_pairs_keep_the_messages(tmp_path):
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    from rlhf_jax.data import Message
    from rlhf_jax.data.readers.conversations import transcript

    row = Ranking(
        id="1",
        prompt=transcript([Message(**m) for m in messages]),
        responses=["x", "y", "z"],
        ranks=[3, 1, 2],
        messages=messages,
    )
    write_trl(tmp_path / "a.jsonl", [row], conversational=True)
    assert json.loads((tmp_path / "a.jsonl").open().readline())["prompt"] == messages
    assert list(read(tmp_path / "a.jsonl")) == [row]


def test_a_group_with_a_missing_pair_is_refused(tmp_path):
    row = Ranking(id="1", prompt="p", responses=["a", "b", "c"], ranks=[1, 2, 3])
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(next(trl_pairs(row))) + "\n")
    with pytest.raises(
        InputError, match=r"a.jsonl:1: ranking: expected pairs of K = 3"
    ):
        list(read(path))


@given(st.lists(rankings(), min_size=1, max_size=3))
def test_rankings_survive_csv(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    write_csv(path, rows)
    assert list(read(path, "csv")) == rows


def test_the_other_records_survive_every_format(tmp_path):
    rows = [
        Demonstration(id="1", prompt="=p", response="'-r"),
        Prompt(id="2", prompt="q", user="u", kind="few-shot"),
    ]
    write_csv(tmp_path / "a.csv", rows)
    assert list(read(tmp_path / "a.csv")) == rows
    write_jsonl(tmp_path / "a.jsonl.gz", rows + [Text(id="3", text="t")])
    assert list(read(tmp_path / "a.jsonl.gz"))[:2] == rows
    write_trl(tmp_path / "b.jsonl", rows)
    assert [type(r) for r in read(tmp_path / "b.jsonl", "trl")] == [
        Demonstration,
        Prompt,
    ]


@given(st.sampled_from(FORMULA), st.text())
def test_no_cell_begins_like_a_formula(first, rest):
    assert safe_cell(first + rest) == "'" + first + rest


def test_a_formula_in_any_column_is_quoted(tmp_path):
    evil = '=HYPERLINK("http://x","y")'
    write_csv(
        tmp_path / "a.csv",
        [
            Ranking(
                id=evil, prompt=evil, responses=[evil, "b"], ranks=[1, 2], labeler=evil
            )
        ],
    )
    with open(tmp_path / "a.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert [k for k, v in row.items() if v.startswith("=")] == []
    assert row["responses_1"] == "'" + evil


def test_a_writer_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("old")

    def broken():
        yield Prompt(id="1", prompt="p")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_jsonl(path, broken())
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        write_jsonl(tmp_path / "none" / "a.jsonl", [])

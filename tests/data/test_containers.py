"""The same rows in JSON, tables, Parquet, packed or not."""

import csv
import datetime
import gzip
import json
import sys

import pytest

from rlhf_jax.data import Demonstration, Ranking, unpacked
from rlhf_jax.data.inputs import read_rows
from rlhf_jax.data.readers import read
from rlhf_jax.data.rows import Intake
from rlhf_jax.errors import InputError

ROWS = [
    {"instruction": f"Add {i}.", "input": "", "output": str(i), "system": "Be brief."}
    for i in range(3)
]
TALK = [
    {"role": "user", "content": "größer?", "tool_calls": None},
    {"role": "assistant", "content": "ja", "tool_calls": None},
]


def parquet(path, rows):
    pyarrow = pytest.importorskip("pyarrow")
    writer = pytest.importorskip("pyarrow.parquet")
    writer.write_table(pyarrow.Table.from_pylist(rows), path)


def table(path, rows, **dialect):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], **dialect)
        writer.writeheader()
        writer.writerows(rows)


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


WRITERS = {
    "a.jsonl": lambda path, rows: path.write_text(lines(rows)),
    "crlf.jsonl": lambda path, rows: path.write_bytes(
        b"\xef\xbb\xbf" + lines(rows).replace("\n", "\r\n").encode()
    ),
    "a.json": lambda path, rows: path.write_text(json.dumps(rows)),
    "a.csv": table,
    "a.tsv": lambda path, rows: table(path, rows, delimiter="\t"),
    "a.parquet": parquet,
    "a.JSONL.GZ": lambda path, rows: path.write_bytes(
        gzip.compress(lines(rows).encode())
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_one_format_is_read_from_every_container(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path, ROWS)
    found = list(read(path))
    assert [row.response for row in found] == ["0", "1", "2"]
    assert [row.messages[0].content for row in found] == ["Be brief."] * 3
    assert len({row.id for row in found}) == 3


@pytest.mark.parametrize("frames", [1, 3])
def test_zstandard_is_read_frame_by_frame(tmp_path, frames):
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "a.jsonl.zst"
    packed = zstandard.ZstdCompressor().compress(lines(ROWS).encode())
    path.write_bytes(packed * frames)
    assert len(list(read(path))) == 3 * frames
    path.write_bytes((packed * frames)[:-3])
    with pytest.raises(InputError, match="a.jsonl.zst:[0-9]+: damaged or unreadable"):
        list(read(path))


def test_zstandard_that_is_damaged_is_told(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "a.jsonl.zst"
    packed = zstandard.ZstdCompressor(write_checksum=True).compress(b"x" * 99)
    path.write_bytes(packed[:-1] + bytes([packed[-1] ^ 1]))
    with pytest.raises(InputError, match="a.jsonl.zst:1: damaged or unreadable"):
        list(read(path))


def test_zstandard_unpacks_in_bounded_memory(tmp_path, monkeypatch):
    """A frame of zeros must not be unpacked whole before its first line is too long."""
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "bomb.jsonl.zst"
    path.write_bytes(zstandard.ZstdCompressor().compress(b" " * (1 << 27)))
    with unpacked.opened(path) as file:
        assert len(file.read(1 << 16)) == 1 << 16
        assert file.raw._file.tell() <= 2 * unpacked.STEP


@pytest.mark.parametrize(
    ("name", "head", "library"),
    [("a.jsonl.zst", b"\x28\xb5\x2f\xfd", "zstandard"), ("a.parquet", b"", "pyarrow")],
)
def test_a_library_that_is_absent_is_named(tmp_path, monkeypatch, name, head, library):
    monkeypatch.setitem(sys.modules, library, None)
    path = tmp_path / name
    path.write_bytes(head)
    with pytest.raises(InputError, match=f"`{library}` library: pip install"):
        list(read(path, "alpaca"))


def test_parquet_holds_conversations_and_other_types(tmp_path):
    path = tmp_path / "a.parquet"
    day = datetime.date(2023, 1, 1)
    parquet(path, [{"messages": TALK, "day": day}, {"messages": TALK, "day": None}])
    first, second = read(path)
    assert (first.prompt, first.response) == ("größer?", "ja")
    assert (first.id, second.id) == ("a.parquet:1", "a.parquet:2")


def test_own_records_may_be_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    parquet(
        path, [{"id": "1", "prompt": "p", "responses": ["a", "b"], "ranks": [2, 1]}]
    )
    (row,) = read(path)
    assert row == Ranking(id="1", prompt="p", responses=["a", "b"], ranks=[2, 1])


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 but no more")
    with pytest.raises(InputError, match="a.parquet:1: damaged or no Parquet"):
        list(read(path))
    with pytest.raises(InputError, match="No such file"):
        list(read(tmp_path / "b.parquet"))


def test_a_cell_may_be_longer_than_the_csv_modules_limit(tmp_path):
    path = tmp_path / "long.csv"
    rows = [
        {"prompt": "short", "completion": "ok"},
        {"prompt": "Read: " + "word " * 40_000, "completion": "long"},
        {"prompt": "after", "completion": "ok"},
    ]
    csv.field_size_limit(131_072)  # whatever was set before
    table(path, rows)
    assert [len(row.prompt) for row in read(path)] == [5, 200_006, 5]


def test_conversations_in_a_table_are_json(tmp_path):
    path = tmp_path / "a.csv"
    table(path, [{"messages": json.dumps(TALK), "id": "1"}])
    (row,) = read(path)
    assert isinstance(row, Demonstration) and row.response == "ja"
    path.write_text("messages\n\"[{'role': 'user'}]\"\n")
    with pytest.raises(
        InputError, match="a.csv:2: messages: expected JSON in the cell"
    ):
        list(read(path, "trl"))


def test_text_that_looks_like_json_stays_text(tmp_path):
    path = tmp_path / "a.csv"
    table(path, [{"prompt": "[1, 2]", "completion": '{"a": 1}'}])
    (row,) = read(path)
    assert (row.prompt, row.response) == ("[1, 2]", '{"a": 1}')


def test_numbers_in_a_table_are_text_and_count_as_numbers(tmp_path):
    path = tmp_path / "a.csv"
    table(path, [{"prompt": "p", "response": r, "helpfulness": h} for r, h in
                 (("a", "1"), ("b", "3.0"))])  # fmt: skip
    (row,) = read(path)
    assert row.ranks == [2, 1]
    path.write_text("prompt,response,helpfulness\np,a,x\np,b,2\n")
    with pytest.raises(InputError, match="helpfulness: expected a number, got 'x'"):
        list(read(path))


def test_a_file_of_another_kind_is_named_and_how_to_read_it(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(lines([{"prompt": "p", "chosen": "a", "rejected": "b"}]))
    with pytest.raises(InputError) as caught:
        list(read_rows((str(path),), Demonstration))
    said = str(caught.value)
    assert "is a file of preferences (ranked responses) (format 'trl'" in said
    assert "the stage wants demonstrations (prompt and response)" in said
    tree = {"message_id": "m", "role": "prompter", "text": "Hi", "replies": []}
    path.write_text(
        lines([{"message_tree_id": "t", "prompt": {**tree, "replies": [
            {"message_id": n, "role": "assistant", "text": n, "rank": i, "replies": []}
            for i, n in enumerate("ab")]}}])
    )  # fmt: skip
    with pytest.raises(InputError, match="read it as .*a.jsonl#oasst-demonstrations"):
        list(read_rows((str(path),), Demonstration))


def test_rankings_of_many_responses_are_read_where_max_k_allows(tmp_path):
    path = tmp_path / "a.jsonl"
    many = [str(i) for i in range(12)]
    path.write_text(
        lines([{"prompt": "p", "responses": many, "ranks": list(range(1, 13))}])
    )
    (row,) = read_rows((str(path),), Ranking, max_k=16)
    assert len(row.responses) == 12
    with pytest.raises(InputError, match=r"expected at most 9, got K = 12 \(max_k\)"):
        list(read_rows((str(path),), Ranking, max_k=9))


def test_rows_that_a_reader_leaves_out_are_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        lines({"prompt": "p", "completion": "c", "label": i > 1} for i in range(5))
    )
    intake = Intake()
    assert len(list(read(path, intake=intake))) == 3
    assert intake.left == {"labelled bad": 2}
    assert intake.first["labelled bad"] == f"{path}:1"

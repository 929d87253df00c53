"""Rows of a large file by number, without the file in memory."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.data import Prompt, index
from rlhf_jax.data.index import JsonlIndex
from rlhf_jax.data.readers import read
from rlhf_jax.data.writers import write_jsonl
from rlhf_jax.errors import InputError


@pytest.fixture
def rows():
    return [Prompt(id=str(i), prompt=f"é {i} " + "x" * (i % 9)) for i in range(200)]


def test_every_row_is_found_by_its_number(tmp_path, rows):
    write_jsonl(tmp_path / "a.jsonl", rows)
    found = JsonlIndex(tmp_path / "a.jsonl")
    assert len(found) == 200 and list(found) == rows
    assert found[-1] == rows[-1]
    with pytest.raises(IndexError):
        found[200]


@given(
    st.lists(st.sampled_from(["", " ", '{"prompt":"é","kind":"plain"}']), min_size=1),
    st.integers(1, 60),
)
def test_a_row_without_an_id_has_that_of_the_reader(tmp_path_factory, lines, block):
    path = tmp_path_factory.getbasetemp() / "unnamed.jsonl"
    lines = [*lines, '{"id":"1","prompt":"p"}', '{"prompt":"q"}']
    path.write_text("\n".join(lines), encoding="utf-8")
    before, index.BLOCK = index.BLOCK, block
    try:
        assert list(JsonlIndex(path)) == list(read(path, "jsonl"))
        assert JsonlIndex(path)[-1].id == f"unnamed.jsonl:{len(lines)}"
    finally:
        index.BLOCK = before


LINES = st.sampled_from([b"", b"  ", b"\r", b'{"id":"1","prompt":"p"}'])


@given(st.lists(LINES, max_size=9), st.booleans(), st.integers(1, 40))
def test_lines_are_found_over_the_borders_of_blocks(
    tmp_path_factory, lines, end, block
):
    path = tmp_path_factory.getbasetemp() / "index.jsonl"
    path.write_bytes(b"\n".join(lines) + (b"\n" if end else b""))
    before, index.BLOCK = index.BLOCK, block
    try:
        found = JsonlIndex(path)
        assert len(found) == sum(line.startswith(b"{") for line in lines)
        assert all(record.id == "1" for record in found)
    finally:
        index.BLOCK = before


def test_the_cache_is_used_again_until_the_file_changes(tmp_path, rows):
    path, cache = tmp_path / "a.jsonl", tmp_path / "a.npy"
    write_jsonl(path, rows)
    assert len(JsonlIndex(path, cache)) == 200
    stamp = cache.stat().st_mtime_ns
    again = JsonlIndex(path, cache)
    assert cache.stat().st_mtime_ns == stamp and again[7] == rows[7]
    assert isinstance(again._offsets, np.memmap)
    with open(path, "a") as file:
        file.write(json.dumps({"id": "z", "prompt": "new"}) + "\n")
    assert JsonlIndex(path, cache)[200].id == "z"


def test_a_damaged_cache_is_made_again(tmp_path, rows):
    path, cache = tmp_path / "a.jsonl", tmp_path / "a.npy"
    write_jsonl(path, rows)
    cache.write_bytes(b"nonsense")
    assert JsonlIndex(path, cache)[3] == rows[3]


def test_a_bad_row_is_told_by_file_and_number(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "1", "prompt": "p"}\n{"id": "2", "prompt": 3}\n')
    with pytest.raises(
        InputError, match=r"a.jsonl: row 1 \(byte 27\): prompt: expected"
    ):
        JsonlIndex(path)[1]


def test_a_compressed_file_is_refused(tmp_path, rows):
    write_jsonl(tmp_path / "a.jsonl.gz", rows)
    with pytest.raises(InputError, match="expected an unpacked file"):
        JsonlIndex(tmp_path / "a.jsonl.gz")

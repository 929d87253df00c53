"""Records as ids: where training starts, what is cut, what is dropped."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.data import ByteTokenizer, Demonstration, Prompt, Ranking, Text
from rlhf_jax.data.encoding import (
    BLOCK,
    Limits,
    blocks,
    encode_demonstrations,
    encode_prompts,
    encode_rankings,
    encode_texts,
)
from rlhf_jax.data.packing import bucket_of, pack
from rlhf_jax.data.ragged import Ragged, RaggedWriter
from rlhf_jax.errors import InputError

TOKENIZER = ByteTokenizer()
END = TOKENIZER.end_token


def demonstration(prompt="abc", response="xy", id="1"):
    return Demonstration(id=id, prompt=prompt, response=response)


def one(row=None, *args, **kwargs):
    return next(
        encode_demonstrations([row or demonstration()], TOKENIZER, *args, **kwargs)
    )


def test_the_response_and_its_end_token_are_trained():
    found = one()
    assert bytes(found.tokens[: found.start]) == b"abc"
    assert found.tokens[found.start :] == [*b"xy", END]


def test_training_on_the_prompt_leaves_out_only_the_first_token():
    assert one(train_on_prompt=True).start == 1


def test_a_response_that_overruns_is_cut_without_an_end_token():
    counts = Counter()
    found = one(None, Limits(10, 2), counts=counts)
    assert found.truncated and found.tokens == [*b"abcxy"]
    assert counts["response_truncated"] == 1


def test_a_response_that_just_fits_keeps_its_end_token():
    found = one(None, Limits(10, 3))
    assert not found.truncated and found.tokens[-1] == END


def test_the_context_bounds_prompt_and_response_together():
    assert one(None, Limits(10, 10, total=5)).tokens == [*b"abcxy"]
    rows = encode_demonstrations([demonstration()], TOKENIZER, Limits(10, 10, total=3))
    assert list(rows) == []


def test_a_long_prompt_is_dropped_and_counted_and_the_index_counts_on():
    counts = Counter()
    rows = [demonstration("a" * 9), demonstration()]
    (kept,) = encode_demonstrations(rows, TOKENIZER, Limits(5, 5), counts=counts)
    assert kept.index == 1 and counts["prompt_too_long"] == 1


def test_a_ranking_has_its_prompt_once_and_an_end_token_per_response():
    row = Ranking(id="1", prompt="p", responses=["a", "", "bcd"], ranks=[2, 1, 2])
    (found,) = encode_rankings([row], TOKENIZER, Limits(5, 3))
    assert found.prompt == [*b"p"]
    assert found.responses == [[*b"a", END], [END], [*b"bcd"]]
    assert found.truncated == [False, False, True] and found.ranks == [2, 1, 2]


def test_prompts_and_texts():
    (prompt,) = encode_prompts([Prompt(id="1", prompt="ab")], TOKENIZER)
    (text,) = encode_texts([Text(id="1", text="ab")], TOKENIZER)
    assert prompt.tokens == [*b"ab"] and text.tokens == [*b"ab", END]


def test_a_model_with_a_begin_token_gets_it_before_prompt_and_text():
    class Beginning(ByteTokenizer):
        begin_token = 0

    (prompt,) = encode_prompts([Prompt(id="1", prompt="ab")], Beginning())
    (text,) = encode_texts([Text(id="1", text="ab")], Beginning())
    row = next(encode_demonstrations([demonstration()], Beginning()))
    assert prompt.tokens[0] == text.tokens[0] == row.tokens[0] == 0 and row.start == 4


def test_rows_keep_their_order_over_the_borders_of_blocks():
    rows = [demonstration(str(i), str(i)) for i in range(BLOCK + 3)]
    found = list(encode_demonstrations(iter(rows), TOKENIZER))
    assert [r.index for r in found] == list(range(BLOCK + 3))
    assert bytes(found[-1].tokens[: found[-1].start]) == str(BLOCK + 2).encode()


def test_blocks_are_read_one_at_a_time():
    read = []
    source = (read.append(i) or i for i in range(10))
    next(blocks(source, 4))
    assert read == [0, 1, 2, 3]


rows_of_ints = st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=8)


@given(rows_of_ints, st.booleans(), st.integers(1, 7), st.data())
def test_padding_equals_the_plain_loop(rows, left, length, data):
    chosen = data.draw(st.lists(st.integers(-1, len(rows) - 1), min_size=1, max_size=5))
    tokens, valid = Ragged.from_rows(rows).padded(
        np.array(chosen), length, 77, left=left
    )
    for b, i in enumerate(chosen):
        row = [] if i < 0 else rows[i][:length]
        filler = [77] * (length - len(row))
        assert tokens[b].tolist() == (filler + row if left else row + filler)
        assert valid[b].sum() == len(row)


@given(rows_of_ints)
def test_rows_on_disk_equal_rows_in_memory(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "rows.int32"
    writer = RaggedWriter(path)
    writer.BUFFER = 3
    for row in rows:
        writer.append(row)
    found = writer.finish()
    assert [found[i].tolist() for i in range(len(found))] == rows


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_packing_puts_each_row_in_one_bin_within_its_capacity(lengths):
    lengths = np.array(lengths)
    bins = pack(lengths, 20)
    assert sorted(i for rows in bins for i in rows) == list(range(len(lengths)))
    assert all(lengths[rows].sum() <= 20 for rows in bins)
    fill = sorted(lengths[rows].sum() for rows in bins)
    assert len(fill) == 1 or fill[0] + fill[1] > 20, "two bins could have been one"


def test_a_row_over_the_capacity_or_the_last_bucket_is_refused():
    with pytest.raises(InputError, match="row 1 has 9 tokens"):
        pack(np.array([3, 9]), 8)
    with pytest.raises(InputError, match="expected at most 8"):
        bucket_of(np.array([9]), [4, 8])
    with pytest.raises(InputError, match="rising"):
        bucket_of(np.array([1]), [8, 8])

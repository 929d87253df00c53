"""Rows of similar size share a batch, and nothing else changes."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.data import (
    ByteTokenizer,
    Prompt,
    Ranking,
    prompt_stream,
    ranking_stream,
)
from rlhf_jax.errors import InputError

BUCKETS, WIDEST = (2, 4, 6), 9


def rankings(counts):
    return [
        Ranking(
            id=str(i),
            prompt=chr(97 + i % 26),
            responses=["a" * (j + 1) for j in range(k)],
            ranks=list(range(1, k + 1)),
        )
        for i, k in enumerate(counts)
    ]


def stream(counts, buckets=BUCKETS, batch_size=4, seed=3, **settings):
    return ranking_stream(
        rankings(counts),
        ByteTokenizer(),
        batch_size=batch_size,
        max_prompt=4,
        max_response=6,
        max_k=WIDEST,
        k_buckets=buckets,
        seed=seed,
        **settings,
    )


counts_of = st.lists(st.integers(2, WIDEST), min_size=1, max_size=40)


@given(counts=counts_of, batch_size=st.integers(1, 7), epoch=st.integers(0, 3))
def test_every_ranking_comes_once_per_epoch_in_as_many_batches_as_without_buckets(
    counts, batch_size, epoch
):
    ours = stream(counts, batch_size=batch_size)
    plain = stream(counts, (), batch_size)
    assert ours.steps_per_epoch == plain.steps_per_epoch
    first = epoch * ours.steps_per_epoch
    batches = [ours.batch(first + i) for i in range(ours.steps_per_epoch)]
    rows = np.concatenate([batch["row"] for batch in batches])
    assert sorted(rows[rows >= 0].tolist()) == list(range(len(counts)))
    # so a prompt weighs the same as ever: no more than one batch is not full
    assert sum((batch["row"] < 0).any() for batch in batches) <= 1


@given(counts=counts_of)
def test_a_batch_is_as_wide_as_a_bucket_and_holds_its_rankings_whole(counts):
    ours = stream(counts)
    assert len(ours) == len(counts)
    for step in range(ours.steps_per_epoch):
        batch = ours.batch(step)
        width = batch["responses"].shape[1]
        assert width in (*BUCKETS, WIDEST)
        for row, present, ranks in zip(
            batch["row"], batch["present"], batch["ranks"], strict=True
        ):
            k = counts[row] if row >= 0 else 0
            assert present.tolist() == [True] * k + [False] * (width - k)
            assert ranks[:k].tolist() == list(range(1, k + 1))


def test_a_row_holds_the_same_arrays_as_without_buckets():
    counts = [2, 5, 2, 9, 3, 2, 2, 4, 2]
    plain, ours = stream(counts, ()), stream(counts)
    rows = {}
    for step in range(plain.steps_per_epoch):
        batch = plain.batch(step)
        rows |= {
            r: {k: v[i] for k, v in batch.items()} for i, r in enumerate(batch["row"])
        }
    for step in range(ours.steps_per_epoch):
        batch = ours.batch(step)
        width = batch["responses"].shape[1]
        for i, row in enumerate(batch["row"]):
            for key, value in batch.items():
                wide = rows[row][key]
                if key in ("responses", "response_valid", "ranks", "present"):
                    wide = wide[:width]
                np.testing.assert_array_equal(value[i], wide, err_msg=key)


def test_most_batches_are_narrow_where_most_rankings_are():
    ours = stream([2] * 37 + [9] * 5)
    widths = [ours.batch(i)["responses"].shape[1] for i in range(ours.steps_per_epoch)]
    assert Counter(widths) == {2: 9, 9: 2}
    turned = [ours.batch(ours.steps_per_epoch + i)["row"] for i in range(11)]
    assert any((ours.batch(i)["row"] != turned[i]).any() for i in range(11))


def test_rankings_of_one_size_make_one_bucket():
    ours = stream([2] * 10)
    widths = {ours.batch(i)["responses"].shape[1] for i in range(ours.steps_per_epoch)}
    assert widths == {2}


def test_a_batch_depends_on_its_number_alone_and_hosts_share_it():
    counts = [2, 5, 2, 9, 3, 2, 2, 4, 2]
    ours, again = stream(counts), stream(counts)
    for step in (7, 0, 3):
        for key, value in ours.batch(step).items():
            np.testing.assert_array_equal(value, again.batch(step)[key])
            halves = [
                stream(counts, shard=(host, 2)).batch(step)[key] for host in (0, 1)
            ]
            np.testing.assert_array_equal(value, np.concatenate(halves))
    other = stream(counts, seed=4)
    assert any(
        (ours.batch(i)["row"] != other.batch(i)["row"]).any()
        for i in range(ours.steps_per_epoch)
    )


def test_no_buckets_is_the_stream_as_it_was():
    plain = stream([2, 3, 9], ())
    assert type(plain).__name__ == "RowStream"
    assert plain.batch(0)["responses"].shape[1] == WIDEST


def test_buckets_that_do_not_rise_and_no_rankings_are_errors():
    with pytest.raises(InputError, match="rising"):
        stream([2, 3], (4, 2))
    with pytest.raises(InputError, match="got 0"):
        stream([])


def prompts_of(lengths, **settings):
    records = [Prompt(id=str(i), prompt="p" * n) for i, n in enumerate(lengths)]
    options = {"batch_size": 3, "max_prompt": 12, "seed": 2, "last": "drop"}
    return prompt_stream(records, ByteTokenizer(), **{**options, **settings})


@given(lengths=st.lists(st.integers(1, 12), min_size=3, max_size=30))
def test_prompts_come_whole_and_once_in_full_batches_of_their_bucket(lengths):
    ours = prompts_of(lengths, buckets=(4, 8))
    assert ours.steps_per_epoch == len(lengths) // 3
    seen = []
    for step in range(ours.steps_per_epoch):
        batch = ours.batch(step)
        width = batch["prompts"].shape[1]
        assert width in (4, 8, 12)
        found = batch["valid"].sum(axis=1)
        assert found.tolist() == [lengths[row] for row in batch["row"]]
        # filler stands on the left
        assert (np.diff(batch["valid"].astype(int), axis=1) >= 0).all()
        seen += batch["row"].tolist()
    assert len(set(seen)) == len(seen) == 3 * ours.steps_per_epoch


def test_short_prompts_are_not_padded_to_the_longest():
    ours = prompts_of([3] * 9 + [12] * 3, buckets=(4,))
    widths = [ours.batch(i)["prompts"].shape[1] for i in range(ours.steps_per_epoch)]
    assert Counter(widths) == {4: 3, 12: 1}


def test_too_few_prompts_for_a_batch_are_an_error():
    with pytest.raises(InputError, match="enough rows"):
        prompts_of([3, 3], buckets=(4,))

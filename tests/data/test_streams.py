"""Batch i is a pure function of (seed, i), on any number of hosts."""

import subprocess
import sys
import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.data import (
    ByteTokenizer,
    Demonstration,
    Prompt,
    Ranking,
    Text,
    demonstration_stream,
    epoch_order,
    mixed_stream,
    prompt_stream,
    ranking_stream,
    text_stream,
)
from rlhf_jax.data.streams import mixed_sizes
from rlhf_jax.errors import InputError

TOKENIZER = ByteTokenizer()
END, PAD = TOKENIZER.end_token, TOKENIZER.pad_token


def demonstrations(n=37, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 28, (n, 2)).tolist()
    return [
        Demonstration(
            id=str(i), prompt=chr(97 + i % 26) * a, response=chr(65 + i % 26) * b
        )
        for i, (a, b) in enumerate(sizes)
    ]


def sft(layout="padded", rows=None, **settings):
    given = {"batch_size": 4, "context_length": 64, "layout": layout, "seed": 3}
    rows = demonstrations() if rows is None else rows
    return demonstration_stream(rows, TOKENIZER, **{**given, **settings})


def rankings(**settings):
    rows = [
        Ranking(
            id=str(i),
            prompt="p" * (i + 1),
            responses=["a" * j for j in range(2 + i % 3)],
            ranks=[1] * (2 + i % 3) if i == 3 else list(range(1, 3 + i % 3)),
        )
        for i in range(7)
    ]
    given = {"batch_size": 4, "max_prompt": 8, "max_response": 6, "seed": 3}
    return ranking_stream(rows, TOKENIZER, **{**given, **settings})


def prompts(**settings):
    rows = [Prompt(id=str(i), prompt="x" * (i + 1)) for i in range(10)]
    given = {"batch_size": 4, "max_prompt": 12, "seed": 3}
    return prompt_stream(rows, TOKENIZER, **{**given, **settings})


def texts(**settings):
    rows = [Text(id=str(i), text="abcdefghij" * (i + 1)) for i in range(6)]
    given = {"batch_size": 4, "context_length": 16, "seed": 3}
    return text_stream(rows, TOKENIZER, **{**given, **settings})


MAKERS = {
    "padded": sft,
    "packed": lambda **s: sft("packed", **s),
    "buckets": lambda **s: sft("buckets", **s),
    "rankings": rankings,
    "prompts": prompts,
    "texts": texts,
}


def same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.parametrize("name", MAKERS)
def test_an_epoch_holds_each_row_exactly_once(name):
    stream = MAKERS[name]()
    for epoch in range(2):
        steps = range(
            epoch * stream.steps_per_epoch, (epoch + 1) * stream.steps_per_epoch
        )
        rows = [row for step in steps for row in stream.batch(step)["row"].tolist()]
        assert sorted(row for row in rows if row >= 0) == list(range(len(stream)))


@pytest.mark.parametrize("name", MAKERS)
def test_epochs_and_seeds_have_orders_of_their_own(name):
    stream, other = MAKERS[name](), MAKERS[name](seed=4)
    n = stream.steps_per_epoch
    rows = [
        [
            row
            for step in range(first, first + n)
            for row in s.batch(step)["row"].tolist()
        ]
        for s, first in ((stream, 0), (stream, n), (other, 0))
    ]
    assert rows[0] != rows[1] and rows[0] != rows[2]


@pytest.mark.parametrize("name", MAKERS)
def test_a_resumed_stream_goes_on_where_it_would_have(name):
    whole, resumed = MAKERS[name](), MAKERS[name]()
    for step in range(5):
        expected = whole.batch(step)
    same(resumed.batch(4), expected)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("hosts", [2, 4])
def test_the_hosts_batches_together_are_the_batch_of_one_host(name, hosts):
    one = MAKERS[name]()
    shards = [MAKERS[name](shard=(host, hosts)) for host in range(hosts)]
    for step in (0, one.steps_per_epoch - 1, one.steps_per_epoch):
        parts = [shard.batch(step) for shard in shards]
        joined = {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}
        same(joined, one.batch(step))


@pytest.mark.parametrize("name", MAKERS)
def test_batches_from_disk_equal_batches_from_memory(name, tmp_path):
    same(MAKERS[name](cache=tmp_path).batch(1), MAKERS[name]().batch(1))
    assert list(tmp_path.iterdir())


@pytest.mark.parametrize("name", MAKERS)
def test_absent_rows_are_masked_everywhere(name):
    stream = MAKERS[name]()
    for step in range(stream.steps_per_epoch):
        batch = stream.batch(step)
        absent = batch["row"] < 0
        for key in ("mask", "valid", "prompt_valid", "response_valid", "present"):
            if key in batch:
                assert not batch[key][absent].any()


def test_another_process_makes_the_same_batches():
    code = (
        "import sys; sys.path.insert(0, 'tests/data'); import test_streams as t;"
        "print(t.sft('packed').batch(7)['tokens'].sum(axis=1).tolist())"
    )
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(sft("packed").batch(7)["tokens"].sum(axis=1).tolist())


def philox(key: list[int], counter: list[int]) -> list[int]:
    """Philox4x64-10 by its definition (Salmon et al. 2011): four words of 64 bits."""
    word = 2**64 - 1
    for turn in range(10):
        k0 = (key[0] + turn * 0x9E3779B97F4A7C15) & word
        k1 = (key[1] + turn * 0xBB67AE8584CAA73B) & word
        a, b = counter[0] * 0xD2E7470EE14C6C93, counter[2] * 0xCA5A826395121157
        counter = [
            (b >> 64) ^ counter[1] ^ k0,
            b & word,
            (a >> 64) ^ counter[3] ^ k1,
            a & word,
        ]
    return counter


def test_the_order_comes_from_philox_by_its_definition():
    key = [5, zlib.crc32(b"rows")]
    words = [w for i in range(1, 4) for w in philox(key, [i, 0, 0, 2])]
    expected = sorted(range(12), key=lambda row: words[row])
    assert epoch_order(5, 2, 12, "rows").tolist() == expected


@given(st.integers(0, 2**32), st.integers(0, 5), st.integers(1, 50))
def test_an_order_is_a_permutation(seed, epoch, count):
    assert sorted(epoch_order(seed, epoch, count, "x").tolist()) == list(range(count))


@pytest.mark.parametrize("layout", ["padded", "packed", "buckets"])
def test_every_layout_trains_exactly_the_responses(layout):
    rows, stream = demonstrations(), sft(layout)
    trained: Counter = Counter()
    for step in range(stream.steps_per_epoch):
        batch = stream.batch(step)
        assert not (batch["mask"] & ~batch["valid"]).any()
        assert (batch["tokens"][~batch["valid"]] == PAD).all()
        trained.update(batch["tokens"][batch["mask"]].tolist())
    expected: Counter = Counter()
    for row in rows:
        expected.update([*row.response.encode(), END])
    assert trained == expected


def test_packed_segments_hold_whole_demonstrations_with_positions_from_zero():
    rows, stream = demonstrations(), sft("packed")
    texts = {row.prompt + row.response for row in rows}
    found = []
    for step in range(stream.steps_per_epoch):
        batch = stream.batch(step)
        for b in range(4):
            for segment in range(1, batch["segments"][b].max(initial=0) + 1):
                at = batch["segments"][b] == segment
                assert batch["positions"][b][at].tolist() == list(range(at.sum()))
                found.append(TOKENIZER.decode(batch["tokens"][b][at]))
            assert not batch["segments"][b][~batch["valid"][b]].any()
    assert len(found) == len(rows) and set(found) == texts


def test_packing_wastes_less_than_padding():
    filled = [
        np.mean([s.batch(i)["valid"].mean() for i in range(s.steps_per_epoch)])
        for s in (sft("packed"), sft("padded"))
    ]
    assert filled[0] > 0.75 > 0.5 > filled[1]


def test_a_bucketed_batch_is_as_wide_as_its_bucket():
    stream = sft("buckets", buckets=[16, 32, 64])
    widths = {stream.batch(i)["tokens"].shape for i in range(stream.steps_per_epoch)}
    assert widths <= {(4, 16), (4, 32), (4, 64)} and len(widths) > 1


def test_rankings_know_who_is_present_and_who_has_an_untied_pair():
    stream = rankings()
    assert stream.account.dropped == {"as all responses are tied": 1}
    for step in range(stream.steps_per_epoch):
        batch = stream.batch(step)
        for b, row in enumerate(batch["row"].tolist()):
            k = 2 + row % 3 if row >= 0 else 0
            assert batch["present"][b].tolist() == [True] * k + [False] * (4 - k)
            assert batch["mask"][b] == (k > 0 and row != 3)
            assert batch["prompt_valid"][b].sum() == (row + 1 if row >= 0 else 0)
            assert batch["response_valid"][b].any(axis=-1).sum() == k
            if k:
                assert batch["responses"][b, 1, :2].tolist() == [97, END]


def test_rankings_of_more_responses_than_asked_for_are_refused():
    with pytest.raises(InputError, match="K = 4, over 3"):
        rankings(max_k=3)


def test_prompts_end_at_the_right_edge():
    batch = prompts().batch(0)
    for row, valid in zip(batch["row"], batch["valid"], strict=True):
        assert valid.tolist() == [False] * (11 - row) + [True] * (row + 1)


def test_dropping_the_last_batch_leaves_only_full_ones():
    stream = prompts(last="drop")
    assert stream.steps_per_epoch == 2
    assert all((stream.batch(i)["row"] >= 0).all() for i in range(8))


def test_windows_are_full_and_predict_every_token_once():
    stream = texts()
    joined = [t for i in range(6) for t in [*(b"abcdefghij" * (i + 1)), END]]
    by_row = {}
    for step in range(stream.steps_per_epoch):
        batch = stream.batch(step)
        for b, row in enumerate(batch["row"].tolist()):
            if row >= 0:
                by_row[row] = batch["tokens"][b][batch["mask"][b]].tolist()
                assert row == len(stream) - 1 or batch["valid"][b].all()
    assert [t for row in sorted(by_row) for t in by_row[row]] == joined[1:]


def test_a_mixed_batch_has_each_streams_share():
    mixed = mixed_stream(
        [lambda b: sft(batch_size=b), lambda b: texts(batch_size=b, context_length=64)],
        [0.75, 0.25],
        batch_size=8,
    )
    assert len(mixed) == 37 and mixed.steps_per_epoch == 7
    for step in range(9):
        batch = mixed.batch(step)
        assert batch["stream"].tolist() == [0] * 6 + [1] * 2
        same(
            {k: v[:6] for k, v in batch.items() if k != "stream"},
            sft(batch_size=6).batch(step),
        )


def test_a_mixed_batch_is_the_same_on_two_hosts():
    makers = [
        lambda b: sft(batch_size=b),
        lambda b: texts(batch_size=b, context_length=64),
    ]
    one = mixed_stream(makers, [0.75, 0.25], batch_size=8)
    two = [mixed_stream(makers, [3, 1], batch_size=8, shard=(h, 2)) for h in range(2)]
    parts = [stream.batch(5) for stream in two]
    same({k: np.concatenate([p[k] for p in parts]) for k in parts[0]}, one.batch(5))


@given(st.integers(20, 512), st.lists(st.floats(0.1, 1), min_size=1, max_size=4))
def test_mixed_sizes_fill_the_batch_within_one_row_of_their_share(batch, weights):
    sizes = mixed_sizes(batch, weights)
    assert sum(sizes) == batch
    for size, weight in zip(sizes, weights, strict=True):
        assert abs(size - batch * weight / sum(weights)) < 1


def test_impossible_settings_are_refused():
    with pytest.raises(InputError, match="without a row"):
        mixed_sizes(4, [0.99, 0.01])
    with pytest.raises(InputError, match="positive"):
        mixed_sizes(4, [1, 0])
    with pytest.raises(InputError, match="host 0 of 3"):
        sft(shard=(0, 3))
    with pytest.raises(InputError, match="expected enough rows"):
        sft(rows=[])
    with pytest.raises(InputError, match="expected enough rows"):
        prompts(batch_size=16, last="drop")
    with pytest.raises(InputError, match="expected rows, got none"):
        sft("buckets", rows=[])

"""What became of rows is told: each stream has its account, and it adds up."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.cli import main
from rlhf_jax.data import (
    Account,
    ByteTokenizer,
    Demonstration,
    Prompt,
    Ranking,
    Text,
    mixed_stream,
    prompt_stream,
    ranking_stream,
    text_stream,
)
from rlhf_jax.data import demonstration_stream as stream_of
from rlhf_jax.data.account import row_metrics, told
from rlhf_jax.data.conversations import PlainForm
from rlhf_jax.data.inputs import (
    as_records,
    encode_prompts,
    fitting,
    read_prompts,
    read_rows,
)
from rlhf_jax.errors import InputError

TOKENIZER = ByteTokenizer()


def rows(*sizes):
    return [
        Demonstration(id=str(i), prompt="x" * p, response="y" * r)
        for i, (p, r) in enumerate(sizes)
    ]


SIZES = [(40, 1)] * 5 + [(2, 50)] * 2 + [(2, 1)]


def test_the_account_of_demonstrations_says_what_was_dropped_and_cut():
    stream = stream_of(
        rows(*SIZES), TOKENIZER, batch_size=2, context_length=20, max_prompt=12,
        max_response=8, layout="padded",
    )  # fmt: skip
    (account,) = stream.accounts
    assert str(account) == (
        "demonstrations: 8 read, 3 used (2 cut at max_response 8), "
        "5 dropped as too long for max_prompt 12"
    )
    assert account.share == 7 / 8
    assert account.warning().startswith("87.5% of the rows are dropped or cut: demon")
    assert json.loads(json.dumps(account.as_dict()))["used"] == 3


@pytest.mark.parametrize("layout", ["packed", "padded", "buckets"])
def test_the_context_is_named_where_it_is_the_limit(layout):
    stream = stream_of(
        rows((16, 1), (20, 1), (2, 30), (2, 2)), TOKENIZER, batch_size=1,
        context_length=16, layout=layout,
    )  # fmt: skip
    assert str(stream.account) == (
        "demonstrations: 4 read, 2 used (1 cut at the context of 16), "
        "2 dropped as too long for the context of 16"
    )


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1))
def test_every_row_is_used_or_dropped_once(sizes):
    try:
        stream = stream_of(
            rows(*sizes), TOKENIZER, batch_size=1, context_length=24, max_prompt=10,
            max_response=20, layout="padded",
        )  # fmt: skip
    except InputError as error:
        assert "0 used" in str(error)
        return
    account = stream.account
    assert account.read == len(sizes) == account.used + account.dropped.total()
    assert account.used == len(stream)
    long = sum(p > 10 for p, _ in sizes)
    cut = sum(p <= 10 and r + 1 > min(20, 24 - p) for p, r in sizes)
    assert account.dropped.total() == long and account.cut.total() == cut


def test_the_account_of_rankings_counts_rows_not_responses():
    ranking = {"prompt": "p", "responses": ["a" * 9, "b" * 9, "c"]}
    some = [
        Ranking(id="1", ranks=[1, 2, 2], **ranking),
        Ranking(id="2", ranks=[1, 1, 1], **ranking),
        Ranking(id="3", ranks=[1, 2, 3], **{**ranking, "prompt": "p" * 9}),
    ]
    stream = ranking_stream(some, TOKENIZER, batch_size=1, max_prompt=4, max_response=4)
    assert str(stream.account) == (
        "rankings: 3 read, 1 used (2 cut at max_response 4), "
        "1 dropped as all responses are tied, 1 dropped as too long for max_prompt 4"
    )


def test_prompts_that_fill_no_batch_are_told():
    prompts = [Prompt(id=str(i), prompt="p" * (1 + i)) for i in range(8)]
    stream = prompt_stream(
        prompts, TOKENIZER, batch_size=2, max_prompt=5, last="drop", buckets=[2]
    )
    assert str(stream.account) == (
        "prompts: 8 read, 5 used, 3 dropped as too long for max_prompt 5, "
        "1 left over in each epoch"
    )


def test_a_mixed_stream_has_the_accounts_of_its_parts():
    stream = mixed_stream(
        [
            lambda size: stream_of(
                rows((2, 2)), TOKENIZER, batch_size=size, context_length=8,
                layout="padded",
            ),
            lambda size: text_stream(
                [Text(id="1", text="abc" * 9)], TOKENIZER, batch_size=size,
                context_length=8,
            ),
        ],
        [1, 1],
        batch_size=2,
    )  # fmt: skip
    assert [str(account) for account in stream.accounts] == [
        "demonstrations: 1 read, 1 used",
        "texts: 1 read, 1 used",
    ]


def test_what_a_stage_tells_and_stores_comes_from_all_its_accounts():
    good, bad = Account("texts", read=3), Account("prompts", read=4)
    bad.drop("as bad rows")
    assert told([good, bad]) == [
        "texts: 3 read, 3 used",
        "prompts: 4 read, 3 used, 1 dropped as bad rows",
        f"warning: {bad.warning()}",
    ]
    found = row_metrics([good, bad])
    assert found["rows/prompts/dropped"] == 1 and found["rows/texts/used"] == 3


def test_what_reading_left_out_is_in_the_account(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [{"prompt": "p", "completion": "c", "label": i % 2 == 0} for i in range(6)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    records = read_rows((str(path),), Demonstration)
    for rows in (records, as_records(records, Demonstration), records):  # read anew
        stream = stream_of(rows, TOKENIZER, batch_size=1, context_length=9)
        assert str(stream.account) == (
            "demonstrations: 6 read, 3 used, 3 dropped (labelled bad)"
        )
    account = Account("prompts")
    assert len(read_prompts((str(path),), account)) == 3
    assert str(account) == "prompts: 6 read, 3 used, 3 dropped (labelled bad)"


def test_prompts_that_are_left_out_or_cut_are_booked():
    account = Account("prompts", read=3)
    prompts = [Prompt(id=str(n), prompt="p" * n) for n in (2, 5, 9)]
    assert len(fitting(prompts, PlainForm(TOKENIZER), 5, account)) == 2
    encode_prompts(["pp", "p" * 9], TOKENIZER, 5, account=account)
    assert str(account) == (
        "prompts: 3 read, 2 used (1 cut at the beginning to max_prompt 5), "
        "1 dropped as too long for max_prompt 5"
    )


def test_a_few_rows_are_no_warning_and_no_row_is_none():
    account = Account(read=100)
    account.drop("as bad rows", 5)
    assert account.warning() is None and account.warning(0.04)
    assert Account().share == 0 and str(Account()) == "rows: 0 read, 0 used"


def test_data_check_tells_what_is_left_out(tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    lines = [{"prompt": "p", "completion": "c", "label": i > 0} for i in range(4)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["data", "check", str(path)]) == 0
    said = capsys.readouterr().out
    assert f"left out: labelled bad: 1 (first: {path}:1)" in said
    assert "warning: 25.0% of the rows are dropped or cut: rows: 4 read, 3 used" in said


def test_ids_are_unique_within_a_file_not_among_files(tmp_path, capsys):
    names = []
    for folder in "ab":
        path = tmp_path / folder / "train.jsonl"
        path.parent.mkdir()
        path.write_text(json.dumps({"prompt": folder, "completion": "x"}) + "\n")
        names.append(str(path))
    assert main(["data", "check", *names]) == 0
    with open(names[0], "a") as file:
        file.write('{"prompt": "c", "completion": "x", "id": "train.jsonl:1"}\n')
    assert main(["data", "check", *names]) == 2
    assert "occurs more than once" in capsys.readouterr().out

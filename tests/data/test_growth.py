"""Twice the data is twice the work: counted in instructions, not in seconds."""

import sys

import pytest

from rlhf_jax.data import Ranking
from rlhf_jax.data.hygiene import drop_near_duplicates, split_leaks
from rlhf_jax.data.pii import find_pii
from rlhf_jax.data.readers.conversations import transcript
from rlhf_jax.data.readers.dialogues import hh_rankings, transcript_messages
from rlhf_jax.data.readers.trees import tree_rankings, tree_rows
from rlhf_jax.data.records import Message, competition_ranks, dense_ranks, untied_count
from rlhf_jax.data.rows import Row


def instructions(work) -> int:
    """How many instructions of Python a call runs, those of its callees included."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def addresses(n):
    return " ".join(f"a{i}@example.org" for i in range(n))


def ranking(n):
    return {
        "id": "1",
        "prompt": "p",
        "responses": ["x"] * n,
        "ranks": list(range(1, n + 1)),
    }


def replies(n):
    rows = [{"message_id": "m", "parent_id": None, "role": "prompter", "text": "?"}]
    rows += [
        {
            "message_id": f"m{i}",
            "parent_id": "m",
            "role": "assistant",
            "text": "!",
            "rank": i,
        }
        for i in range(n)
    ]
    rows = [row | {"message_tree_id": "t"} for row in rows]
    return [Row("f", i, row) for i, row in enumerate(rows)]


def dialogue(n):
    return "\n\nHuman: a\n\nAssistant: b" * n + "\n\nHuman: c\n\nAssistant:"


def records(n):
    return [
        Ranking(
            id=str(i), prompt=f"{i}", responses=["a", "b"], ranks=[1, 2], split="train"
        )
        for i in range(n)
    ]


WORK = {
    "personal data": lambda n: find_pii(addresses(n)),
    "a ranking": lambda n: Ranking(**ranking(n)),
    "competition ranks": lambda n: competition_ranks([7] * n + list(range(n))),
    "dense ranks": lambda n: dense_ranks(list(range(n))),
    "untied pairs": lambda n: untied_count(list(range(n))),
    "flat trees": lambda n: [list(tree_rankings(row)) for row in tree_rows(replies(n))],
    "transcripts": lambda n: transcript(transcript_messages(dialogue(n))),
    "HH-RLHF": lambda n: list(
        hh_rankings(
            Row("f", 1, {"chosen": dialogue(n) + " x", "rejected": dialogue(n) + " y"})
        )
    ),
    "near-duplicates": lambda n: drop_near_duplicates(records(n)),
    "leaks": lambda n: split_leaks(records(n)),
}


@pytest.mark.parametrize("name", WORK)
def test_work_grows_with_the_data_and_not_with_its_square(name):
    small, large = (instructions(lambda n=n: WORK[name](n)) for n in (200, 800))
    assert large < 6 * small  # linear: 4; a square: 16


def test_the_count_of_instructions_sees_a_square():
    def square(n):
        return [i < j for i in range(n) for j in range(n)]

    small, large = (instructions(lambda n=n: square(n)) for n in (20, 80))
    assert large > 12 * small


def test_a_long_dialogue_keeps_its_turns():
    assert transcript_messages(dialogue(3))[-1] == Message(role="user", content="c")

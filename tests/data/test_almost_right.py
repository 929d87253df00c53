"""Rows of every known format with something wrong: records or counted rejects."""

import copy
import json
import random

import pytest

from rlhf_jax.data.readers import FORMATS, read
from rlhf_jax.data.rows import Intake
from rlhf_jax.data.writers import write_jsonl
from rlhf_jax.errors import InputError

ASK, SAY = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}
PARTS = {"role": "tool", "content": [{"type": "text", "text": "t"}], "name": "f"}
LEAF = {"message_id": "r", "role": "assistant", "text": "x", "rank": 0, "replies": []}
RIGHT = [
    {"prompt": "q", "chosen": [ASK, SAY], "rejected": [ASK, {**SAY, "content": "b"}],
     "score_chosen": 8.5, "score_rejected": "3", "messages": [ASK, SAY]},
    {"instruction": "q", "completions": [
        {"response": "a", "overall_score": 1, "fine-grained_score": None},
        {"response": "b", "overall_score": "2", "annotations": {}}]},
    {"prompt": "\n\nHuman: q\n\nAssistant: ", "answers": [
        {"answer": "a", "rank": 1.0}, {"answer": "b", "rank": 2}]},
    {"prompt": "q", "response": "a", "helpfulness": 3, "verbosity": 1},
    {"prompt": "q", "response_1": "a", "response_2": "b", "preference_strength": -1},
    {"context": [ASK], "response1": "a", "response2": "b", "overall_preference": 2},
    {"post_id": "p", "history": "q", "human_ref_A": "a", "human_ref_B": "b",
     "labels": 1, "score_A": 3, "score_B": 2},
    {"model_a": "x", "model_b": "y", "winner": "model_a", "judge": "j",
     "conversation_a": [ASK, SAY], "conversation_b": [ASK, SAY]},
    {"prompt": '["q", "r"]', "response_a": '["a", null]', "response_b": '["b", "c"]',
     "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
     "system": "s"},
    {"message_id": "m", "parent_id": None, "role": "prompter", "text": "q"},
    {"message_id": "n", "parent_id": "m", "role": "assistant", "text": "a", "rank": 0.},
    {"message_tree_id": "t", "prompt": {
        "message_id": "m", "role": "prompter", "text": "q",
        "replies": [LEAF, {**LEAF, "message_id": "s", "rank": 1}]}},
    {"instruction": "q", "input": "", "output": "a", "system": "s",
     "history": [["q", "a"]]},
    {"instruction": "q", "chosen": "a", "rejected": ["b", "c"]},
    {"messages": [ASK, CALL, PARTS, {**SAY, "weight": 0.5}]},
    {"prompt": [ASK], "completion": [SAY, ASK, SAY], "label": True},
    {"id": "1", "prompt": "p", "response": "a", "messages": [ASK, SAY]},
    {"id": "2", "prompt": "p", "responses": ["a", "b"], "ranks": [1, 2]},
]  # fmt: skip
JUNK = [
    None, "", 0, -1, 1.5, 1e300, True, [], {}, "x", "nan", "[1]", "a\0", "tie", [None],
    ["a"], {"a": 1}, [[]], [{}], [{"role": []}], [ASK], SAY, [["a", "b"]], [["a", 0]],
]  # fmt: skip


def places(value, path=()):
    """The paths of everything inside a value."""
    inside = value.items() if isinstance(value, dict) else ()
    inside = enumerate(value) if isinstance(value, list) else inside
    for key, item in list(inside):
        yield (*path, key)
        yield from places(item, (*path, key))


def spoilt(row, dice):
    """A copy of a row with one to three places gone, changed or grown."""
    row = copy.deepcopy(row)
    for _ in range(dice.randint(1, 3)):
        found = list(places(row))
        if not found:
            break
        *path, last = dice.choice(found)
        inner = row
        for key in path:
            inner = inner[key]
        how, junk = dice.random(), copy.deepcopy(dice.choice(JUNK))
        if how < 0.25:
            del inner[last]
        elif how < 0.5 and isinstance(inner, list):
            inner.append(junk)
        else:
            inner[last] = junk
    return row


@pytest.mark.parametrize("seed", range(8))
def test_rows_that_are_almost_right_are_records_or_counted_rejects(seed, tmp_path):
    dice, made = random.Random(seed), 0
    path, own = tmp_path / "a.jsonl", tmp_path / "own.jsonl"
    for _ in range(150):
        rows = [spoilt(dice.choice(RIGHT), dice) for _ in range(dice.randint(1, 3))]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        for format in ("auto", dice.choice(list(FORMATS))):
            intake = Intake("skip")
            try:
                records = list(read(path, format, intake=intake))
            except InputError as error:
                assert str(path) in str(error), rows
                continue
            assert len(records) == intake.records
            if records:
                write_jsonl(own, records)
                again = list(read(own, "jsonl"))
                bare = [[r.model_copy(update={"group": None}) for r in some]
                        for some in (records, again)]  # fmt: skip
                assert bare[0] == bare[1], rows
            made += len(records)
    assert made > 20  # not everything is refused


@pytest.mark.parametrize("row", RIGHT)
def test_what_is_spoilt_above_was_right(row, tmp_path):
    path, intake = tmp_path / "a.jsonl", Intake()
    path.write_text(json.dumps(row) + "\n")
    if row.get("parent_id") == "m":  # a reply without its question
        with pytest.raises(InputError, match="parent_id"):
            list(read(path))
        return
    list(read(path, intake=intake))
    assert intake.records + sum(intake.left.values()) == 1

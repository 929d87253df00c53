"""Files -> batches: what fits which task, what is told where it does not."""

import json

import pytest
import sqlalchemy as sa
from studies import batch_of, gold_rankings, rows_of, sets

from rlhf_jax.data.records import Prompt, Ranking
from rlhf_jax.errors import InputError
from rlhf_jax.labelling import schema
from rlhf_jax.labelling.guidelines import blocks
from rlhf_jax.labelling.imports import Batch, add_batch, read_items
from rlhf_jax.labelling.showing import turns
from rlhf_jax.labelling.tasks import TASKS, load_definition, parse_definition


@pytest.mark.parametrize("task", TASKS)
def test_every_task_that_ships_loads(task):
    assert load_definition(task).kind == task


def test_the_ranking_task_asks_what_table_3_asks():
    from rlhf_jax.data.records import FLAG_NAMES

    names = [field.name for field in load_definition("ranking").response_fields]
    assert names == ["likert", *FLAG_NAMES]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kind": "rnking"}, "kind: Input should be"),
        ({"version": 0}, "version"),
        ({"colour": 1}, "colour: Extra inputs"),
        (
            {"response_fields": [{"name": "a", "type": "choice", "label": "A"}]},
            "options",
        ),
        ({"response_fields": [{"name": "A b", "type": "text", "label": "A"}]}, "name"),
        ({"item_fields": [{"name": "a", "type": "text", "label": "A"}] * 2}, "twice"),
    ],
)
def test_a_wrong_definition_is_told_by_field(change, told):
    good = {"name": "n", "version": 1, "kind": "ranking", "title": "t", "question": "q"}
    with pytest.raises(InputError, match=told):
        parse_definition(json.dumps({**good, **change}), "mine.json")
    assert parse_definition(json.dumps(good), "mine.json").name == "n"


def test_yaml_makes_no_objects():
    with pytest.raises(InputError, match="constructor"):
        parse_definition("!!python/object/apply:os.system [echo]", "x.yaml")


def test_a_changed_definition_needs_a_higher_version(study, tmp_path):
    text = load_definition("ranking").model_dump(mode="json")
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(text))
    batch_of(study, sets(1), name="a", task=str(path))
    path.write_text(json.dumps({**text, "title": "Other"}))
    with pytest.raises(InputError, match="higher version"):
        batch_of(study, sets(1), name="b", task=str(path))
    path.write_text(json.dumps({**text, "title": "Other", "version": 2}))
    batch_of(study, sets(1), name="b", task=str(path))


def test_changed_guidelines_are_a_new_version(study, tmp_path):
    path = tmp_path / "house.md"
    for n, text in enumerate(("one", "two", "two")):
        path.write_text(text)
        batch_of(study, sets(1), name=f"b{n}", guideline=str(path))
    found = rows_of(study, sa.select(schema.guidelines.c.version))
    assert [row.version for row in found] == [1, 2]


def test_the_same_batch_again_changes_nothing(store):
    first = batch_of(store, sets(3))
    assert batch_of(store, sets(3)) == first
    assert len(rows_of(store, sa.select(schema.items))) == 3
    with pytest.raises(InputError, match="with other items"):
        batch_of(store, sets(4))


@pytest.mark.parametrize(
    ("records", "settings", "told"),
    [
        ([Prompt(id="p", prompt="x")], {}, "p: a Prompt; ranking needs Ranking"),
        (sets(1), {"task": "demonstration"}, "demonstration needs Prompt"),
        (sets(1), {"task": "pairwise"}, "two different responses"),
        ([*sets(1), *sets(1)], {}, "set-0: this id occurs more than once"),
        ([], {}, "no items"),
        (sets(1), {"overlap": 0, "people": "all"}, "people: 'all'.*overlap: 0"),
        (sets(1), {"gold_rate": 0.5, "repeat_rate": 0.1}, "more than a half"),
        (sets(1), {"task": "nothing"}, "expected a readable YAML"),
        (sets(1), {"guideline": "nothing"}, "expected a Markdown file"),
    ],
)
def test_what_does_not_fit_is_told(study, records, settings, told):
    with pytest.raises(InputError, match=told):
        batch_of(study, records, **settings)
    assert rows_of(study, sa.select(schema.batches)) == []


def test_gold_without_ranks_is_refused(study):
    with pytest.raises(InputError, match="gold needs ranks"):
        batch_of(study, sets(1), gold=sets(1, name="g"))
    batch_of(study, sets(1), gold=gold_rankings(1))


def test_candidates_of_a_stage_are_read(tmp_path):
    row = {"id": "1", "prompt": "p", "responses": ["a", "b"], "config": "abc"}
    (tmp_path / "candidates.jsonl").write_text(json.dumps(row) + "\n")
    (record,) = read_items(tmp_path)
    assert record.responses == ["a", "b"]


def test_ranked_records_are_read_too(tmp_path):
    row = {"id": "1", "prompt": "p", "responses": ["a", "b"], "ranks": [1, 2]}
    (tmp_path / "r.jsonl").write_text(json.dumps(row) + "\n")
    (record,) = read_items(tmp_path / "r.jsonl")
    assert isinstance(record, Ranking)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"id": "1", "prompt": "", "responses": ["a", "b"]}', ":2: prompt"),
        ('{"id": "1", "prompt": "p", "responses": ["a"]}', ":2: responses"),
        ('{"id": "1", "prompt": "p", "responses": ["a", 1]}', ":2: responses.1"),
        ('{"id": "1", "promt": "p", "responses": ["a", "b"]}', ":2: prompt"),
        ("{", ":2: "),
    ],
)
def test_a_bad_row_is_told_by_line_and_field(tmp_path, line, told):
    good = json.dumps({"id": "0", "prompt": "p", "responses": ["a", "b"]})
    path = tmp_path / "sets.jsonl"
    path.write_text(f"{good}\n{line}\n")
    with pytest.raises(InputError, match=told):
        read_items(path)


def test_an_empty_batch_name_is_refused(study):
    with pytest.raises(InputError, match="name: expected one"):
        add_batch(study, Batch(name=" "), sets(1))


@pytest.mark.parametrize(
    ("record", "roles"),
    [
        ({"prompt": "Hi"}, ["user"]),
        (
            {"prompt": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"},
            ["user", "assistant", "user"],
        ),
        ({"prompt": "He said\n\nHuman: no"}, ["user"]),
        (
            {"prompt": "x", "meta": {"messages": [{"role": "system", "content": "s"}]}},
            ["system"],
        ),
    ],
)
def test_conversations_are_turns(record, roles):
    assert [turn["role"] for turn in turns(record)] == roles


def test_markdown_stays_text():
    found = blocks("# A <b>\n\n- *x*\n- [y](javascript:1)\n\n```\n<script>\n```\n\n> q")
    assert [b["kind"] for b in found] == ["h1", "ul", "pre", "blockquote"]
    assert found[0]["spans"] == [("", "A <b>")]
    assert found[1]["items"][1] == [("", "[y](javascript:1)")]
    assert found[2]["text"] == "<script>\n"

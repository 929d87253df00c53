"""Answers as records: what a slot said goes to the response that stood there."""

import csv
import json

import pytest
import sqlalchemy as sa
from studies import batch_of, person, ranked, rows_of, sets

from rlhf_jax.data.readers import read
from rlhf_jax.data.records import Demonstration, Prompt, Ranking
from rlhf_jax.errors import InputError
from rlhf_jax.labelling import schema
from rlhf_jax.labelling.access import remove_person
from rlhf_jax.labelling.answering import submit, undo
from rlhf_jax.labelling.assignment import claim
from rlhf_jax.labelling.exports import export
from rlhf_jax.labelling.imports import CandidateSet
from rlhf_jax.labelling.web.views import task_view


def answer_by(store, who, better, **content):
    """Ranks what is shown by `better(text)`, greatest first; the texts as shown."""
    number = claim(store, who)
    texts = task_view(store, who, number)["item"]["texts"]
    order = sorted({better(text) for text in texts}, reverse=True)
    slots = [
        {"rank": order.index(better(t)) + 1, "fields": {"likert": 4}} for t in texts
    ]
    for slot, extra in zip(slots, content.pop("fields", []), strict=False):
        slot["fields"] |= extra
    body = {"slots": slots, **content}
    submit(store, who, number, token=f"token-of-task-{number:06d}", content=body)
    return texts


def exported(store, tmp_path, **options):
    path = tmp_path / "out.jsonl"
    return export(store, path, **options), list(
        read(path)
    ) if path.stat().st_size else []


def test_ranks_come_back_to_the_responses_whatever_the_order(store, tmp_path):
    batch_of(store, sets(6, k=5))
    who = person(store)
    shown = [answer_by(store, who, lambda text: int(text[-1])) for _ in range(6)]
    _, rows = exported(store, tmp_path)
    for row, texts in zip(rows, shown, strict=True):
        assert row.ranks == [5, 4, 3, 2, 1]
        assert [row.responses[index] for index in row.shown_order] == texts
    assert len({tuple(row.shown_order) for row in rows}) > 3


def test_identical_responses_get_the_same_rank_and_place(study, tmp_path):
    texts = ["same", "other", "same", "third"]
    batch_of(study, [CandidateSet(id="1", prompt="p", responses=texts)])
    who = person(study)
    shown = answer_by(study, who, lambda text: text == "same")
    assert sorted(shown) == ["other", "same", "third"]
    _, (row,) = exported(study, tmp_path)
    assert row.responses == texts and row.ranks == [1, 2, 1, 2]
    assert sorted(row.shown_order) == [0, 1, 2, 3]
    places = [row.shown_order.index(0), row.shown_order.index(2)]
    assert abs(places[0] - places[1]) == 1


def test_a_ranking_keeps_every_field(study, tmp_path):
    batch_of(study, sets(1, k=2, user="u1", meta={"x": 1}), name="one")
    who = person(study, "ann")
    fields = [{"hallucination": True}]
    shown = answer_by(study, who, len, fields=fields)
    _, (row,) = exported(study, tmp_path)
    assert isinstance(row, Ranking)
    assert (row.labeler, row.guideline, row.user) == ("ann", "training@1", "u1")
    assert row.likert == [4, 4]
    first = row.responses.index(shown[0])
    assert row.flags[first]["hallucination"] is True
    assert row.flags[1 - first]["hallucination"] is False
    assert row.meta["x"] == 1
    told = row.meta["labelling"]
    assert (told["batch"], told["task"], told["purpose"]) == (
        "one",
        "ranking@1",
        "work",
    )


def test_everybody_s_row_is_there_under_the_item_s_id(study, tmp_path):
    batch_of(study, sets(1), overlap=2)
    for name in ("ann", "bob"):
        answer_by(study, person(study, name), len)
    _, rows = exported(study, tmp_path)
    assert [(row.id, row.labeler) for row in rows] == [
        ("set-0", "ann"),
        ("set-0", "bob"),
    ]


@pytest.mark.parametrize(
    ("choice", "ranks"),
    [("first", (1, 2)), ("second", (2, 1)), ("tie", (1, 1)), ("both_bad", (1, 1))],
)
def test_a_choice_of_two_is_a_ranking_of_two(study, tmp_path, choice, ranks):
    batch_of(study, sets(1, k=2), task="pairwise")
    who = person(study)
    number = claim(study, who)
    texts = task_view(study, who, number)["item"]["texts"]
    content = {"choice": choice, "slots": [{}, {}]}
    submit(study, who, number, token="0123456789abcdef", content=content)
    _, (row,) = exported(study, tmp_path)
    assert [row.ranks[row.responses.index(text)] for text in texts] == list(ranks)
    assert row.meta["labelling"]["choice"] == choice


def test_what_people_write_becomes_demonstrations_and_prompts(study, tmp_path):
    batch_of(study, [Prompt(id="d", prompt="Rain?")], task="demonstration", name="d")
    batch_of(
        study, [Prompt(id=f"w{n}", prompt="A shop.") for n in range(2)],
        task="prompt", name="w", priority=1,
    )  # fmt: skip
    who = person(study, "ann")
    fields = {"use_case": "rewrite"}
    examples = [
        {"query": "hot", "response": "cold"},
        {"query": "up", "response": "down"},
    ]
    few = {"kind": "few-shot", "prompt": "Antonyms.", "examples": examples}
    for content in (
        {"text": "Drip.", "fields": {"ambiguous": True}},
        {"kind": "plain", "prompt": "Make it friendlier.", "fields": fields},
        {**few, "fields": fields},
    ):
        number = claim(study, who)
        submit(study, who, number, token=f"token-{number:012d}", content=content)
    _, (shown, plain, *shots) = exported(study, tmp_path)
    assert isinstance(shown, Demonstration) and shown.response == "Drip."
    assert shown.meta["labelling"]["fields"]["ambiguous"] is True
    assert shown.meta["labelling"]["labeler"] == "ann"
    assert isinstance(plain, Prompt) and plain.use_case == "rewrite"
    assert [s.response for s in shots] == ["cold", "down"]
    assert all(s.kind == "few-shot" and "Antonyms." in s.prompt for s in shots)


def test_flags_alone_are_told_and_exported_as_answers(study, tmp_path):
    batch_of(study, sets(1, k=2), task="flags")
    who = person(study)
    fields = {"toxicity": 1, "violent_content": True}
    content = {"slots": [{"fields": fields}, {"fields": {"toxicity": 0}}]}
    token = "0123456789abcdef"
    submit(study, who, claim(study, who), token=token, content=content)
    made, rows = exported(study, tmp_path)
    assert rows == [] and "flags have no record" in str(made.left_out)
    export(study, tmp_path / "a.jsonl", form="answers")
    row = json.loads((tmp_path / "a.jsonl").read_text())
    assert row["kind"] == "flags" and len(row["shown"]) == 2
    assert row["answer"]["slots"][0]["fields"]["violent_content"] is True


def test_an_export_is_frozen_at_its_event(store, tmp_path):
    batch_of(store, sets(2))
    who = person(store)
    number = claim(store, who)
    submit(store, who, number, token="first-token-00000", content=ranked(3, [1, 2, 3]))
    made, before = exported(store, tmp_path)
    undo(store, who, number)
    assert exported(store, tmp_path)[1] == []
    submit(store, who, number, token="other-token-00000", content=ranked(3, [1, 1, 1]))
    _, now = exported(store, tmp_path)
    assert now[0].ranks == [1, 1, 1] and now[0].meta["labelling"]["revision"] == 2
    assert exported(store, tmp_path, as_of=made.as_of)[1] == before
    assert exported(store, tmp_path, as_of=0)[1] == []


def test_late_and_gold_answers_are_left_out_aloud(study, tmp_path, clock):
    batch_of(study, sets(1), lease_minutes=1)
    a, b = person(study, "a"), person(study, "b")
    late = claim(study, a)
    clock.pass_(61)
    claim(study, b)
    submit(study, a, late, token="0123456789abcdef", content=ranked(3))
    made, rows = exported(study, tmp_path)
    assert rows == [] and made.left_out == {"late, beyond the overlap": 1}
    made, rows = exported(study, tmp_path, extras=True)
    assert len(rows) == 1 and made.left_out == {}


def test_trl_and_csv_are_written_and_formulas_are_harmless(study, tmp_path):
    texts = ["=HYPERLINK(1)", "+1", "plain"]
    batch_of(study, [CandidateSet(id="1", prompt="@p", responses=texts)])
    answer_by(study, person(study), len)
    export(study, tmp_path / "t.jsonl", form="trl")
    lines = (tmp_path / "t.jsonl").read_text().splitlines()
    assert len(lines) == 3 and json.loads(lines[0])["chosen"] == texts[0]
    export(study, tmp_path / "t.csv", form="csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert not [cell for cell in row.values() if cell[:1] in "=+-@" and cell]


def test_a_person_is_removed_as_they_wish(store, tmp_path):
    batch_of(store, sets(2), overlap=2)
    ann, bob = person(store, "ann"), person(store, "bob")
    for who in (ann, bob):
        for _ in range(2):
            answer_by(store, who, len)
    assert "kept under removed-" in remove_person(store, ann, "pseudonymised")
    assert "2 answers" in remove_person(store, bob, "erased")
    _, rows = exported(store, tmp_path)
    assert len(rows) == 2 and {row.labeler[:8] for row in rows} == {"removed-"}
    names = {row.name[:8] for row in rows_of(store, sa.select(schema.people))}
    assert names == {"removed-"}
    assert store.verify() == []
    cy = person(store, "cy")
    assert claim(store, cy) is not None  # what was erased is asked again


def test_an_unknown_batch_or_format_is_told(study, tmp_path):
    batch_of(study, sets(1), name="mine")
    with pytest.raises(InputError, match="there are mine"):
        export(study, tmp_path / "x", batch="yours")
    with pytest.raises(InputError, match="expected one of jsonl, trl, csv, answers"):
        export(study, tmp_path / "x", form="xls")

"""Drafts, submissions, undo: nothing lost, nothing twice."""

import pytest
import sqlalchemy as sa
from studies import batch_of, person, ranked, rows_of, sets

from rlhf_jax.errors import InputError
from rlhf_jax.labelling import schema
from rlhf_jax.labelling.answering import save_draft, skip, submit, undo
from rlhf_jax.labelling.assignment import claim
from rlhf_jax.labelling.refusals import Conflict, Missing

TOKEN = "a-token-of-the-page-1"


@pytest.fixture
def held(store):
    """(store, person, assignment) of a set of three responses."""
    batch_of(store, sets(2))
    who = person(store)
    return store, who, claim(store, who)


def answers(store):
    return rows_of(store, sa.select(schema.answers).order_by(schema.answers.c.id))


def test_the_same_submission_twice_is_stored_once(held):
    store, who, number = held
    first = submit(store, who, number, token=TOKEN, content=ranked(3))
    second = submit(store, who, number, token=TOKEN, content=ranked(3))
    assert (first["repeated"], second["repeated"]) == (False, True)
    assert len(answers(store)) == 1


def test_a_second_tab_cannot_answer_again(held):
    store, who, number = held
    submit(store, who, number, token=TOKEN, content=ranked(3))
    with pytest.raises(Conflict, match="already answered"):
        submit(store, who, number, token="of-the-other-tab-00", content=ranked(3))


def test_a_token_of_another_task_is_refused(held):
    store, who, number = held
    submit(store, who, number, token=TOKEN, content=ranked(3))
    other = claim(store, who)
    with pytest.raises(Conflict, match="another task"):
        submit(store, who, other, token=TOKEN, content=ranked(3))


def test_nobody_answers_for_somebody_else(held):
    store, _, number = held
    other = person(store, "other")
    for act in (
        lambda: submit(store, other, number, token=TOKEN, content=ranked(3)),
        lambda: save_draft(store, other, number, 0, {}),
        lambda: skip(store, other, number, "mine now"),
        lambda: undo(store, other, number),
    ):
        with pytest.raises(Missing):
            act()


def test_ranks_are_stored_densely_and_ties_kept(held):
    store, who, number = held
    submit(store, who, number, token=TOKEN, content=ranked(3, [5, 9, 5]))
    slots = answers(store)[0].content["slots"]
    assert [slot["rank"] for slot in slots] == [1, 2, 1]


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"slots": []}, "slots: expected 3"),
        ({}, "slots: expected 3"),
        (ranked(2), "slots: expected 3"),
        (ranked(3, [1, 2, 0]), "slots.3.rank"),
        (ranked(3, [1, 2, True]), "slots.3.rank"),
        (ranked(3, [1, None, 2]), "slots.2.rank"),
        (ranked(3, likert=8), "slots.1.likert: expected a whole number from 1 to 7"),
        ({"slots": [{"rank": 1}] * 3}, "slots.1.likert: expected an answer"),
        ({**ranked(3), "fields": {"x": 1}}, "fields.x: no such field"),
        ({**ranked(3), "fields": {"note": "x" * 200_001}}, "at most"),
        ([], "expected an object"),
    ],
)
def test_an_incomplete_answer_is_refused_by_field(study, content, field):
    batch_of(study, sets(1))
    who = person(study)
    number = claim(study, who)
    with pytest.raises(InputError, match=field.replace(".", r"\.")):
        submit(study, who, number, token=TOKEN, content=content)
    assert answers(study) == []


def test_an_undone_answer_is_kept_and_the_next_one_counts(held):
    store, who, number = held
    submit(store, who, number, token=TOKEN, content=ranked(3, [1, 2, 3]))
    undo(store, who, number)
    assert claim(store, who) == number
    draft = rows_of(store, sa.select(schema.drafts))[0]
    assert [slot["rank"] for slot in draft.content["slots"]] == [1, 2, 3]
    submit(
        store, who, number, token="another-token-00000", content=ranked(3, [3, 2, 1])
    )
    first, second = answers(store)
    assert (first.revision, second.revision) == (1, 2)
    assert first.withdrawn_event is not None and second.withdrawn_event is None
    assert store.verify() == []


def test_it_is_too_late_to_undo_after_ten_minutes(study, clock):
    batch_of(study, sets(1))
    who = person(study)
    number = claim(study, who)
    submit(study, who, number, token=TOKEN, content=ranked(3))
    clock.pass_(601)
    with pytest.raises(Conflict, match="too late"):
        undo(study, who, number)


def test_an_undone_skip_takes_its_slot_back(study):
    batch_of(study, sets(1))
    first, second = person(study, "a"), person(study, "b")
    number = claim(study, first)
    skip(study, first, number, "by mistake")
    undo(study, first, number)
    assert claim(study, second) is None
    skip(study, first, number, "again")
    claim(study, second)
    with pytest.raises(Conflict, match="Somebody else"):
        undo(study, first, number)


def test_a_draft_of_an_older_version_does_not_overwrite(held):
    store, who, number = held
    assert save_draft(store, who, number, 0, {"slots": [1]}) == 1
    assert save_draft(store, who, number, 1, {"slots": [2]}) == 2
    with pytest.raises(Conflict, match="newer draft"):
        save_draft(store, who, number, 1, {"slots": [3]})
    assert rows_of(store, sa.select(schema.drafts))[0].content == {"slots": [2]}


def test_a_draft_keeps_the_lease(study, clock):
    batch_of(study, sets(1), lease_minutes=10)
    first, second = person(study, "a"), person(study, "b")
    number = claim(study, first)
    clock.pass_(500)
    save_draft(study, first, number, 0, {})
    clock.pass_(500)
    assert claim(study, second) is None


def test_time_on_task_is_never_more_than_has_passed(study, clock):
    batch_of(study, sets(1))
    who = person(study)
    number = claim(study, who)
    clock.pass_(30)
    submit(study, who, number, token=TOKEN, content=ranked(3), seconds=9000)
    assert answers(study)[0].seconds == 30


def test_texts_with_nul_and_broken_surrogates_are_stored(held):
    store, who, number = held
    note = "a\0b\ud800c"
    content = {**ranked(3), "fields": {"note": note}}
    submit(store, who, number, token=TOKEN, content=content)
    assert answers(store)[0].content["fields"]["note"] == "a\0b?c"

"""The researcher's numbers, against numbers worked out by hand or another way."""

import itertools

import pytest
import sqlalchemy as sa
from studies import batch_of, gold_rankings, person, rows_of, sets

from rlhf_jax.data.records import Prompt
from rlhf_jax.errors import InputError
from rlhf_jax.feedback import pairwise_agreement
from rlhf_jax.labelling import schema
from rlhf_jax.labelling.access import change_state
from rlhf_jax.labelling.accounts import costs, who_was_asked
from rlhf_jax.labelling.adjudication import disagreements, reserve
from rlhf_jax.labelling.answering import submit
from rlhf_jax.labelling.assignment import claim
from rlhf_jax.labelling.exchange import collect
from rlhf_jax.labelling.exports import answers_as_of, records_of
from rlhf_jax.labelling.screening import (
    add_mark,
    save_survey,
    screening_table,
    unmarked,
)
from rlhf_jax.labelling.statistics import live_table
from rlhf_jax.labelling.web.views import task_view


def answer(store, who, worth, *, likert=None, seconds=0.0):
    """One task ranked by `worth(text)`, greatest first; False where there is none."""
    number = claim(store, who)
    if number is None:
        return False
    texts = task_view(store, who, number)["item"]["texts"]
    order = sorted({worth(t) for t in texts}, reverse=True)
    slots = [
        {
            "rank": order.index(worth(t)) + 1,
            "fields": {"likert": likert(t) if likert else 4},
        }
        for t in texts
    ]
    token = f"token-of-task-{number:06d}"
    submit(store, who, number, token=token, content={"slots": slots}, seconds=seconds)
    return True


def last(text):
    return int(text[-1])


def backwards(text):
    return -int(text[-1])


def only_the_first(text):
    return int(text[-1] == "0")


def test_agreement_is_that_of_feedback(study):
    batch_of(study, sets(6, k=4), overlap=3)
    ways = {"ann": last, "bob": backwards, "cy": only_the_first}
    for name, worth in ways.items():
        who = person(study, name)
        while answer(study, who, worth):
            pass
    table = live_table(study)
    with study.read() as connection:
        rows = answers_as_of(connection, study.last_event(connection))
    rankings = [record for row in rows for record in records_of(row)]
    expected = pairwise_agreement(rankings)["agreement"]
    (group,) = table["groups"]
    assert group["agreement"]["estimate"] == pytest.approx(expected)
    pairs = {(p["one"], p["other"]): p["agreement"]["estimate"] for p in table["pairs"]}
    assert pairs == {("ann", "bob"): 0.0, ("ann", "cy"): 0.0, ("bob", "cy"): 1.0}


def test_one_person_s_row(study, clock):
    batch_of(study, sets(4, k=3))
    who = person(study, "ann")
    for seconds in (10, 20, 60, 20):
        number = claim(study, who)
        clock.pass_(100)
        assert number
        answer(
            study, who, only_the_first, likert=lambda t: 7 - last(t), seconds=seconds
        )
    (row,) = live_table(study)["people"]
    assert (row["answers"], row["seconds"]) == (4, 20)
    assert row["ties"]["estimate"] == pytest.approx(1 / 3)
    assert row["likert"]["estimate"] == 1.0
    assert row["agreement"] is None and row["gold"] is None


def test_gold_accuracy_and_consistency_with_oneself(study):
    gold = gold_rankings(6)
    batch_of(study, sets(60), gold=gold, gold_rate=0.3, repeat_rate=0.2)
    who = person(study)
    while answer(study, who, last):
        pass
    (row,) = live_table(study)["people"]
    assert row["gold"]["estimate"] == 0.0  # the researchers like the first best
    assert row["self"]["estimate"] == 1.0


def test_a_bias_for_what_is_shown_first_is_seen(study):
    batch_of(study, sets(30, k=3))
    who = person(study)
    while (number := claim(study, who)) is not None:
        slots = [{"rank": n, "fields": {"likert": 4}} for n in (1, 2, 2)]
        token = f"token-of-task-{number:06d}"
        submit(study, who, number, token=token, content={"slots": slots})
    table = live_table(study)
    assert table["people"][0]["first_slot"]["estimate"] == 1.0
    wins = {row["slot"]: row["wins"]["estimate"] for row in table["slots"]}
    assert wins == {1: 1.0, 2: 0.0, 3: 0.0}


def test_likert_scores_alike_have_alpha_one(study):
    batch_of(study, sets(3), overlap=2)
    for name in ("ann", "bob"):
        who = person(study, name)
        while answer(study, who, last, likert=lambda t: 1 + last(t)):
            pass
    (group,) = live_table(study)["groups"]
    assert group["alpha"] == pytest.approx(1.0)


def test_the_worst_disagreement_comes_first_and_can_be_settled(store):
    batch_of(store, sets(3), overlap=2)
    ann, bob = person(store, "ann"), person(store, "bob")
    boss = person(store, "boss", role="researcher")
    for n in range(3):
        answer(store, ann, last)
        answer(store, bob, backwards if n == 1 else last)
    first, *others = disagreements(store)
    assert first["key"] == "set-1" and first["agreement"] == 0.0
    assert [row["agreement"] for row in others] == [1.0, 1.0]
    assert claim(store, boss) is None
    reserve(store, first["item"], boss)
    assert answer(store, boss, last)
    assert claim(store, boss) is None and len(disagreements(store)) == 2
    assert len([r for r in collect(store, "b") if r["id"] == "set-1"]) == 3
    assert store.verify() == []


def test_costs_are_per_comparison(study, clock):
    batch_of(study, sets(2, k=4), price=1.5)
    who = person(study)
    for _ in range(2):
        claim(study, who)
        clock.pass_(60)
        answer(study, who, last, seconds=30)
    (row,) = costs(study)
    assert row["comparisons"] == 12 and row["answers"] == 2
    assert row["seconds_each"] == pytest.approx(60 / 12)
    assert row["price"] == 3.0 and row["price_each"] == pytest.approx(0.25)


def test_demographics_are_counts_of_five_or_more_and_nobody_s(study):
    for n in range(5):
        told = {"gender": "woman"} if n < 4 else {"gender": "man", "region": "Europe"}
        save_survey(study, person(study, f"p{n}"), {"demographics": told})
    found = who_was_asked(study)
    assert found["demographics"] == {
        "gender": {"woman": 0.8, "man": 0.2},
        "region": None,
    }
    columns = set(schema.demographics.c.keys())
    assert columns == {"id", "content"}
    with pytest.raises(InputError, match="answered already"):
        save_survey(study, 1, {"demographics": {"gender": "man"}})
    with pytest.raises(InputError, match="no such question or answer"):
        save_survey(study, person(study, "new"), {"demographics": {"gender": "x"}})


def screening_round(study):
    batch_of(study, [], gold=gold_rankings(4), name="rank", purpose="qualification")
    batch_of(
        study, [], gold=[Prompt(id="d", prompt="Write.")], name="write", priority=1,
        task="demonstration", purpose="qualification",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("worth", "mark", "passes"),
    [(backwards, 6, True), (backwards, 5, False), (last, 7, False)],
)
def test_a_screening_round_with_the_paper_s_cut_offs(study, worth, mark, passes):
    screening_round(study)
    who = person(study, "new", qualify=True)
    boss = person(study, "boss", role="researcher")
    for _ in range(4):
        answer(study, who, worth)
    assert screening_table(study)[0]["left"] == 1
    text = {"text": "It rains."}
    submit(study, who, claim(study, who), token="0123456789abcdef", content=text)
    assert "new" not in str(unmarked(study, boss))
    (waiting,) = unmarked(study, boss)
    add_mark(study, boss, waiting["assignment"], mark)
    assert unmarked(study, boss) == []
    (row,) = screening_table(study)
    assert row["rankings"] == (1.0 if worth is backwards else 0.0)
    assert row["demonstrations"] == mark and row["passes"] is passes
    change_state(study, who, "active", group="held-out")
    assert rows_of(study, sa.select(schema.people.c.group))[0].group == "held-out"


def test_flags_of_a_screening_are_compared_with_the_researchers_(study):
    truth = [
        record.model_copy(
            update={"flags": [{"violent_content": n == 0} for n in range(3)]}
        )
        for record in gold_rankings(2)
    ]
    batch_of(study, [], gold=truth, task="flags", purpose="qualification")
    who = person(study, qualify=True)
    for number in (1, 2):
        assert claim(study, who) == number
        slots = [{"fields": {"toxicity": 0, "violent_content": False}}] * 3
        token = f"token-of-task-{number:06d}"
        submit(study, who, number, token=token, content={"slots": slots})
    (row,) = screening_table(study)
    assert row["flags"] == pytest.approx(2 / 3) and row["passes"] is False


def test_a_person_who_has_worked_does_not_change_the_group(study):
    batch_of(study, sets(1))
    who = person(study)
    answer(study, who, last)
    with pytest.raises(InputError, match="kept apart"):
        change_state(study, who, "active", group="held-out")


def test_pairs_of_people_are_all_there(study):
    batch_of(study, sets(2), overlap=4)
    names = ["a", "b", "c", "d"]
    for name in names:
        who = person(study, name)
        while answer(study, who, last):
            pass
    found = [(row["one"], row["other"]) for row in live_table(study)["pairs"]]
    assert found == list(itertools.combinations(names, 2))

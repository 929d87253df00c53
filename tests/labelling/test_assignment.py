"""Who gets what: overlaps, leases, gold, repeats, groups, queues."""

import collections
import concurrent.futures

import pytest
import sqlalchemy as sa
from studies import (
    batch_of,
    gold_rankings,
    person,
    ranked,
    rows_of,
    sets,
)

from rlhf_jax.labelling import schema
from rlhf_jax.labelling.access import add_person, change_state
from rlhf_jax.labelling.answering import skip, submit
from rlhf_jax.labelling.assignment import claim
from rlhf_jax.labelling.refusals import Forbidden
from rlhf_jax.labelling.showing import order_for


def answer(store, who, number, token=None, k=3):
    token = token or f"token-of-{who:06d}-{number:08d}"
    return submit(store, who, number, token=token, content=ranked(k))


def purposes(store, who):
    table = schema.assignments
    query = sa.select(table.c.purpose).where(table.c.people_id == who)
    return [row.purpose for row in rows_of(store, query)]


def test_every_item_gets_exactly_its_overlap(store):
    batch_of(store, sets(4), overlap=2)
    people = [person(store, f"p{n}") for n in range(3)]
    given = collections.Counter()
    for _ in range(4):
        for who in people:
            number = claim(store, who)
            if number is not None:
                assert answer(store, who, number)["state"] == "done"
                given[who] += 1
    assert sum(given.values()) == 8
    assert all(claim(store, who) is None for who in people)
    assert store.verify() == []


def test_claims_at_once_do_not_overshoot(store):
    batch_of(store, sets(5), overlap=3)
    people = [person(store, f"p{n}") for n in range(24)]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        numbers = list(pool.map(lambda who: claim(store, who), people))
    taken = [number for number in numbers if number is not None]
    assert len(taken) == len(set(taken)) == 15
    table = schema.assignments
    query = sa.select(table.c.items_id, sa.func.count()).group_by(table.c.items_id)
    assert {count for _, count in rows_of(store, query)} == {3}


def test_a_person_never_meets_an_item_twice_for_its_overlap(study):
    batch_of(study, sets(2), overlap=2)
    who = person(study)
    for _ in range(2):
        answer(study, who, claim(study, who))
    assert claim(study, who) is None


def test_an_open_task_comes_back_in_another_tab(study):
    batch_of(study, sets(3))
    who = person(study)
    assert claim(study, who) == claim(study, who)


def test_a_skipped_task_goes_to_somebody_else(study):
    batch_of(study, sets(1))
    first, second = person(study, "a"), person(study, "b")
    skip(study, first, claim(study, first), "unclear")
    assert claim(study, first) is None
    assert claim(study, second) is not None


def test_a_lease_expires_and_the_task_goes_on(store, clock):
    batch_of(store, sets(1), lease_minutes=10)
    first, second = person(store, "a"), person(store, "b")
    claim(store, first)
    assert claim(store, second) is None
    clock.pass_(601)
    assert claim(store, second) is not None
    assert store.verify() == []


def test_a_late_answer_takes_a_free_slot_or_is_kept_as_an_extra(store, clock):
    batch_of(store, sets(1), lease_minutes=10, overlap=2)
    a, b, c = (person(store, name) for name in "abc")
    late = [claim(store, a), claim(store, b)]
    clock.pass_(601)
    assert claim(store, c) is not None
    assert answer(store, a, late[0])["state"] == "done"
    assert answer(store, b, late[1])["state"] == "extra"
    assert store.verify() == []


def test_an_expired_task_comes_back_to_who_began_it(study, clock):
    batch_of(study, sets(1), lease_minutes=10)
    who = person(study)
    number = claim(study, who)
    clock.pass_(601)
    assert claim(study, who) == number


def test_gold_questions_come_at_their_rate_and_take_no_slot(study):
    batch_of(study, sets(60), gold=gold_rankings(10), gold_rate=0.3)
    who = person(study)
    while (number := claim(study, who)) is not None:
        answer(study, who, number)
    counts = collections.Counter(purposes(study, who))
    assert counts["work"] == 60
    assert counts["gold"] == 10


def test_repeats_ask_the_same_person_again_and_hold_no_slot(study):
    batch_of(study, sets(80), repeat_rate=0.2)
    who = person(study)
    while (number := claim(study, who)) is not None:
        answer(study, who, number)
    counts = collections.Counter(purposes(study, who))
    assert counts["work"] == 80
    assert 5 <= counts["repeat"] <= 35
    table = schema.assignments
    query = sa.select(table.c.items_id, sa.func.count()).group_by(table.c.items_id)
    assert max(count for _, count in rows_of(study, query)) == 2
    assert study.verify() == []


def test_the_groups_are_kept_apart(study):
    batch_of(study, sets(1), name="for training", people="train")
    batch_of(study, sets(1, name="other"), name="for held-out", people="held-out")
    held_out = person(study, "h", group="held-out")
    answer(study, held_out, claim(study, held_out))
    assert claim(study, held_out) is None
    assert claim(study, person(study, "t")) is not None


def test_who_qualifies_gets_the_qualification_round_only(study):
    batch_of(study, sets(2))
    batch_of(study, [], gold=gold_rankings(3), name="screen", purpose="qualification")
    who = person(study, qualify=True)
    for _ in range(3):
        answer(study, who, claim(study, who))
    assert claim(study, who) is None
    change_state(study, who, "active")
    assert claim(study, who) is not None
    assert purposes(study, who)[:3] == ["qualification"] * 3


def test_a_paused_person_gets_nothing_and_gives_back(study):
    batch_of(study, sets(1))
    first, second = person(study, "a"), person(study, "b")
    claim(study, first)
    change_state(study, first, "paused")
    with pytest.raises(Forbidden):
        claim(study, first)
    assert claim(study, second) is not None


def test_the_smaller_priority_number_comes_first(study):
    batch_of(study, sets(1), name="later", priority=5)
    batch_of(study, sets(1, name="urgent"), name="now", priority=1)
    who = person(study)
    number = claim(study, who)
    query = sa.select(schema.items.c.key).join(schema.assignments)
    query = query.where(schema.assignments.c.id == number)
    assert rows_of(study, query)[0].key == "urgent-0"


def test_sensitive_items_are_left_to_those_who_want_them(study):
    batch_of(study, sets(1, meta={"sensitive": True}))
    who = person(study)
    people = schema.people
    with study.write() as connection:
        connection.execute(people.update().values(sees_sensitive=False))
    assert claim(study, who) is None
    with study.write() as connection:
        connection.execute(people.update().values(sees_sensitive=True))
    assert claim(study, who) is not None


def test_the_order_is_a_function_of_item_and_person():
    assert order_for("1", 2, 3, 0, 9) == order_for("1", 2, 3, 0, 9)
    orders = {tuple(order_for("1", 2, who, 0, 9)) for who in range(20)}
    assert len(orders) == 20
    first = [order_for("1", item, 3, 0, 4)[0] for item in range(400)]
    counts = collections.Counter(first)
    assert all(60 < counts[index] < 140 for index in range(4))


@pytest.mark.slow
def test_a_thousand_claims_at_once_give_the_overlap_exactly(store):
    batch_of(store, sets(250), overlap=3)
    people = [add_person(store, f"p{n}")[0] for n in range(1000)]
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        numbers = list(pool.map(lambda who: claim(store, who), people))
    taken = [number for number in numbers if number is not None]
    assert len(taken) == len(set(taken)) == 750
    assert store.verify() == []


@pytest.mark.slow
def test_a_thousand_races_for_the_last_slot_have_one_winner_each(store, clock):
    """Both held it, one lease ran out: one answer fills the slot, one is an extra."""
    batch_of(store, sets(1000, k=2), lease_minutes=1)
    a, b = person(store, "a"), person(store, "b")
    races = []
    for _ in range(1000):
        first = claim(store, a)
        clock.pass_(61)
        second = claim(store, b)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            jobs = [(a, first), (b, second)]
            found = pool.map(lambda job: answer(store, *job, k=2)["state"], jobs)
            races.append(sorted(found))
    assert races == [["done", "extra"]] * 1000
    assert store.verify() == []

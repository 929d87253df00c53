"""Alarms compare with the start of a run; skipping now and again stops it."""

import pytest

from rlhf_jax.errors import NumericsError
from rlhf_jax.training import Guards, above
from rlhf_jax.training.alarms import Alarm, below, collapses, drifts, lasts


def fired(alarm, rows, history=200):
    """Steps at which an alarm is told over a run."""
    told = []

    def when(seen):
        found = alarm.when(seen)
        if found:
            told.append(found)
        return found

    guards = Guards(alarms=[Alarm(alarm.name, when)], history=history)
    for step, row in enumerate(rows, 1):
        guards.observe(step, row)
    return told


def slope(first, last, steps=1000):
    return [first + (last - first) * i / (steps - 1) for i in range(steps)]


def test_what_creeps_over_a_thousand_steps_is_seen():
    lengths = [{"length": value} for value in slope(30.0, 1.0)]
    told = fired(drifts("length", 3.0), lengths)
    assert told and "from 29.9" in told[0]
    scores = [{"score": value, "score_std": 1.0} for value in slope(3.0, -3.0)]
    assert "score fell from 2.9" in fired(collapses("score"), scores)[0]


def test_what_stays_as_it_was_is_left_alone():
    rows = [{"length": 20.0 + i % 3, "score": 0.1 * (i % 5)} for i in range(300)]
    assert fired(drifts("length", 3.0), rows) == []
    assert fired(collapses("score"), rows) == []


@pytest.mark.parametrize("cut", [10, 150, 240])
def test_a_run_that_was_cut_remembers_its_start(cut):
    rows = list(enumerate(({"n": i} for i in range(300)), 1))
    whole, resumed = Guards(alarms=[], history=50), Guards(alarms=[], history=50)
    for step, row in rows:
        whole.observe(step, row)
    resumed.recall(rows[:cut])
    for step, row in rows[cut:]:
        resumed.observe(step, row)
    assert resumed.first == whole.first and resumed.history == whole.history
    assert [row["n"] for row in whole.first] == list(range(20))


def test_no_score_for_several_steps_stops_a_run_and_one_step_does_not():
    alarm = lasts(above("bad_scores", 0.999), 3)
    guards = Guards(alarms=[alarm])
    for step, share in enumerate((1.0, 1.0, 0.5, 1.0, 1.0), 1):
        guards.observe(step, {"bad_scores": share})
    with pytest.raises(NumericsError, match="for 3 steps: bad_scores = 1 is above"):
        guards.observe(6, {"bad_scores": 1.0})
    assert lasts(below("length", 1.5), 2).when([{"length": 1.0}]) is None


def test_skipping_every_other_update_stops_a_run():
    guards = Guards(alarms=[])
    with pytest.raises(NumericsError, match="now and again"):
        for step in range(1, 101):
            guards.observe(step, {"skipped": step % 2, "skipped_in_a_row": step % 2})
    assert step == 39


def test_the_search_for_a_loss_scale_does_not():
    guards = Guards(alarms=[])
    for step in range(1, 101):
        guards.observe(step, {"skipped": int(step <= 16), "skipped_in_a_row": 0})

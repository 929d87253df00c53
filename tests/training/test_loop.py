"""The loop: what it logs and saves, in which order, and how it stops."""

import os
import signal
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_lm as toy
from hypothesis import given
from hypothesis import strategies as st
from in_memory import MemoryStore, MemoryTracker

from rlhf_jax.checkpoints import CheckpointStore
from rlhf_jax.errors import NumericsError, Preempted
from rlhf_jax.training import (
    Guards,
    StopSignal,
    above,
    resume_or_init,
    run_loop,
    spike,
)

N = 7


@pytest.fixture(scope="module")
def update():
    return jax.jit(toy.make(ema_decay=0.9), donate_argnums=0)


@pytest.fixture(scope="module")
def step_fn(update):
    return lambda state, step: update(state, toy.batch(step))


def init():
    return toy.init(ema=True)


def counted(state, step):
    """A step without jax: counts."""
    return state + 1, {"loss": float(step)}


@pytest.fixture(scope="module")
def uncut(step_fn):
    """Hash of the state and the losses of a run that nothing cuts."""
    tracker = MemoryTracker()
    state = run_loop(step_fn, resume_or_init(init)[0], N, tracker=tracker)
    return toy.bits(state), [metrics["loss"] for _, metrics in tracker.lines]


@given(cuts=st.lists(st.integers(0, N), max_size=3), every=st.sampled_from([1, 2, 3]))
def test_a_run_cut_at_any_steps_ends_bit_for_bit_the_same(cuts, every, step_fn, uncut):
    """R4, with the step that dies taking its metrics and its state along."""
    store, tracker = MemoryStore(), MemoryTracker()

    def dies_at(cut):
        def step(state, index):
            if index == cut:
                raise ZeroDivisionError
            return step_fn(state, index)

        return step

    for cut in [*cuts, None]:
        state, start = resume_or_init(init, store=store, tracker=tracker)
        try:
            state = run_loop(
                dies_at(cut),
                state,
                N,
                start_step=start,
                store=store,
                tracker=tracker,
                save_every=every,
            )
        except ZeroDivisionError:
            pass
    assert tracker.steps == list(range(1, N + 1))
    assert (toy.bits(state), [m["loss"] for _, m in tracker.lines]) == uncut


def test_steps_run_ahead_of_the_host(monkeypatch):
    """Metrics of a step are fetched only after the next one was started."""
    events = []
    fetch = jax.device_get

    def noted(tree):
        events.append(("fetch", [int(m["n"]) for m in tree]))
        return fetch(tree)

    def step_fn(state, step):
        events.append(("start", step + 1))
        return state, {"n": jnp.int32(step + 1)}

    monkeypatch.setattr(jax, "device_get", noted)
    run_loop(step_fn, None, 3)
    assert events == [
        ("start", 1),
        ("start", 2),
        ("fetch", [1]),
        ("start", 3),
        ("fetch", [2]),
        ("fetch", [3]),
    ]
    events.clear()
    run_loop(step_fn, None, 5, fetch_every=2)
    assert [e for e in events if e[0] == "fetch"] == [
        ("fetch", [1, 2]),
        ("fetch", [3, 4]),
        ("fetch", [5]),
    ]


def test_nothing_moves_between_host_and_device_unasked(update):
    batches = [jax.device_put(toy.batch(step)) for step in range(4)]
    tracker = MemoryTracker()
    with jax.transfer_guard("disallow"):
        run_loop(
            lambda s, i: update(s, batches[i]), init_on_device(), 4, tracker=tracker
        )
    assert tracker.steps == [1, 2, 3, 4]


def init_on_device():
    with jax.transfer_guard("allow"):
        return init()


def test_a_step_is_logged_before_its_checkpoint():
    events = []
    store, tracker = MemoryStore(events), MemoryTracker(events)

    def state_step(state, step):
        return state + 1, {"loss": 0.0}

    run_loop(state_step, jnp.int32(0), 5, store=store, tracker=tracker, save_every=2)
    assert events == [
        ("log", 1),
        ("log", 2),
        ("save", 2),
        ("log", 3),
        ("log", 4),
        ("save", 4),
        ("log", 5),
        ("save", 5),
        ("wait",),
    ]
    assert store.saved[4][1] == {"step": 4}


def test_a_finished_run_does_nothing_again():
    store = MemoryStore()
    assert run_loop(counted, 3, 3, start_step=3, store=store) == 3
    assert store.saved == {}


def test_what_a_killed_save_left_goes_even_if_the_run_saves_no_more(tmp_path):
    def count(state, step):
        return {"n": state["n"] + 1}, {"loss": float(step)}

    def resumed():
        store = CheckpointStore(tmp_path)
        state, start = resume_or_init(lambda: {"n": jnp.int32(0)}, store=store)
        run_loop(count, state, 2, start_step=start, store=store)
        store.close()
        return start

    assert resumed() == 0
    for name in ("1.deleted", "2.writing"):
        (tmp_path / name).mkdir()
    assert resumed() == 2
    assert [path.name for path in tmp_path.iterdir()] == ["2"]


def test_evaluations_join_the_line_of_their_step():
    tracker = MemoryTracker()

    def evaluate(state, step):
        return {"valid_loss": jnp.float32(state * 10)}

    run_loop(counted, 0, 5, tracker=tracker, evaluate=evaluate, evaluate_every=2)
    values = {step: m.get("valid_loss") for step, m in tracker.lines}
    assert values == {1: None, 2: 20.0, 3: None, 4: 40.0, 5: 50.0}


def test_metrics_reach_the_tracker_as_plain_numbers(step_fn):
    tracker = MemoryTracker()
    run_loop(step_fn, init(), 2, tracker=tracker)
    for _, metrics in tracker.lines:
        assert {type(value) for value in metrics.values()} <= {int, float}
        assert metrics["seconds"] > 0


# --------------------------------------------------------------------------- guards


def bad_from(start, step_fn):
    def step(state, index):
        batch = toy.batch(index)
        batch["noise"][3] = np.nan if index >= start else 0.0
        return step_fn(state, batch)

    return step


def test_bad_batches_are_named_and_stop_the_run_with_finite_params(update, tmp_path):
    store, tracker = MemoryStore(), MemoryTracker()
    guards = Guards(
        tmp_path, max_skipped=3, batch_ids=lambda i: toy.batch(i)["row"].tolist()
    )
    step = bad_from(4, update)
    with pytest.raises(NumericsError, match="3 updates in a row") as caught:
        run_loop(step, init(), 50, store=store, tracker=tracker, guards=guards)
    assert caught.value.exit_code == 3
    (saved,) = store.saved
    params = store.saved[saved][0].params
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    assert tracker.steps == list(range(1, saved + 1)), "logged up to the checkpoint"
    names = sorted(p.name for p in (tmp_path / "bad_batches").iterdir())
    assert names == [f"step_{n:08d}.json" for n in (5, 6, 7)]
    text = (tmp_path / "bad_batches" / names[0]).read_text()
    assert str(toy.batch(4)["row"].tolist()[-1]) in text


def test_an_alarm_warns_once_while_it_lasts_and_names_the_batch(tmp_path, caplog):
    guards = Guards(tmp_path, alarms=[above("loss", 2.5)], batch_ids=lambda i: [i])
    run_loop(counted, 0, 6, guards=guards)
    lines = (tmp_path / "alarms.jsonl").read_text().splitlines()
    assert len(lines) == 1 and '"batch": [3]' in lines[0]
    assert caplog.text.count("loss = 3 is above 2.5") == 1


def test_a_stop_alarm_saves_and_ends_the_run():
    store = MemoryStore()
    guards = Guards(alarms=[above("loss", 2.5, action="stop")])
    with pytest.raises(NumericsError, match="step 4: loss too high"):
        run_loop(counted_array, jnp.int32(0), 9, guards=guards, store=store)
    assert list(store.saved) == [5], "the alarm is heard one step late"


def counted_array(state, step):
    return state + 1, {"loss": float(step)}


# -------------------------------------------------------------------------- signals


def signalled(number, at=2):
    def step(state, index):
        if index == at:
            os.kill(os.getpid(), number)
        return state + 1, {"loss": 0.0}

    return step


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_current_step_and_the_handlers_return(number):
    before = signal.getsignal(number)
    store, tracker = MemoryStore(), MemoryTracker()
    with pytest.raises(Preempted, match="after step 3 is saved") as caught:
        run_loop(signalled(number), jnp.int32(0), 9, store=store, tracker=tracker)
    assert caught.value.exit_code == 143
    assert list(store.saved) == [3] and tracker.steps == [1, 2, 3]
    assert signal.getsignal(number) is before


def test_a_signal_in_the_last_step_still_counts():
    with pytest.raises(Preempted):
        run_loop(signalled(signal.SIGTERM, at=4), 0, 5)


def test_handlers_return_after_a_crash():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError):
        run_loop(lambda state, step: 1 // 0, 0, 5)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_interrupts_and_a_second_sigterm_does_not():
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.reached(0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_long_step_can_be_abandoned_at_its_boundary():
    """R7: the state before the step is saved, the step is run again later."""
    store = MemoryStore()
    with StopSignal() as stop:

        def step(state, index):
            if index == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            stop.check()
            return state + 1, {"loss": 0.0}

        with pytest.raises(Preempted, match="after step 3"):
            run_loop(step, jnp.int32(0), 9, store=store, stop=stop)
    assert list(store.saved) == [3] and int(store.saved[3][0]) == 3


def test_the_loop_runs_outside_the_main_thread():
    result = []
    thread = threading.Thread(target=lambda: result.append(run_loop(counted, 0, 4)))
    thread.start()
    thread.join()
    assert result == [4]


HANG = """
import threading
from rlhf_jax.training import Watchdog, run_loop

def step(state, index):
    if index == 3:
        threading.Event().wait(30)  # far beyond the watchdog
    return state, {}

run_loop(step, 0, 9, watchdog=Watchdog(floor=0.3, factor=2, patience=0.3))
"""


def test_a_hanging_step_dumps_stacks_and_exits():
    """R9."""
    done = subprocess.run(
        [sys.executable, "-c", HANG], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "watchdog: step 4 has hung" in done.stderr
    assert 'File "<string>", line 7 in step' in done.stderr


def test_what_stopped_a_run_stops_it_again_and_cut_alarms_look_back():
    def alarms():
        return [above("kl", 2.0, action="stop"), spike("loss", 3.0, at_least=4)]

    rows = [(n, {"kl": 1.0, "loss": 1.0}) for n in range(1, 6)]
    guards = Guards(alarms=alarms())
    guards.recall(rows)
    assert [name for name, _ in guards.last_line.items()] == []
    guards.observe(6, {"kl": 1.0, "loss": 9.0})
    assert guards.firing == {"loss spike"}
    stopped = [*rows, (6, {"kl": 5.0, "loss": 1.0}), (7, {"kl": 1.0, "loss": 1.0})]
    with pytest.raises(NumericsError, match="step 6: kl too high"):
        Guards(alarms=alarms()).recall(stopped)
    skipped = [(1, {"skipped_in_a_row": 2})]
    with pytest.raises(NumericsError, match="2 updates in a row"):
        Guards(max_skipped=2).recall(skipped)
    Guards(max_skipped=3).recall(skipped)

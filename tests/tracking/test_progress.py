"""Progress tells rate and time left, in lines or as a bar."""

import io
import math

import pytest

from rlhf_jax.tracking import Progress, RunTracker, progress
from rlhf_jax.tracking.progress import duration


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_lines_come_every_so_often_and_at_the_end():
    clock, out = Clock(), io.StringIO()
    bar = Progress(100, "sft", every=10.0, file=out, clock=clock)
    for step in range(1, 101):
        clock.now += 0.5
        bar.update(step, {"loss": 2.3456789, "other": 1.0})
    bar.close()
    lines = out.getvalue().splitlines()
    assert lines[0] == "sft 1/100 1% | 2 steps/s | 0:50 left | loss 2.346"
    assert lines[1].startswith("sft 21/100 21% | 2 steps/s | 0:40 left")
    assert lines[-1].startswith("sft 100/100 100%") and len(lines) == 6


def test_the_rate_forgets_the_compilation_and_the_steps_before_a_resume():
    clock = Clock()
    bar = Progress(1000, start=500, file=io.StringIO(), clock=clock)
    clock.now += 60  # compiling
    bar.update(501)
    for step in range(502, 601):
        clock.now += 2
        bar.update(step)
    assert bar.rate == pytest.approx(0.5)
    assert bar.seconds_left == pytest.approx(800)
    assert "2 s/step | 13:20 left" in bar.line({})


def test_a_rewind_starts_the_count_again():
    clock = Clock()
    bar = Progress(10, file=io.StringIO(), clock=clock)
    clock.now += 1
    bar.update(5)
    bar.rewind(2)
    assert (bar.step, bar.rate, bar.seconds_left) == (2, 0.0, math.inf)


def test_nothing_to_do_is_no_division_by_zero():
    bar = Progress(0, file=io.StringIO(), clock=Clock())
    bar.update(0)
    assert bar.seconds_left == 0 and "0/0" in bar.line({})


def test_a_terminal_gets_a_bar():
    out = Terminal()
    with progress(3, "ppo", file=out) as bar:
        for step in (1, 2, 3):
            bar.update(step, {"kl": 1.5})
    assert "ppo" in out.getvalue() and "3/3" in out.getvalue()
    assert "kl 1.5" in out.getvalue()


def test_the_tracker_shows_the_progress_of_what_it_logs(tmp_path, capsys):
    with RunTracker(
        tmp_path, tensorboard=False, total_steps=2, description="rm"
    ) as tracker:
        tracker.log(1, {"loss": 0.5})
        tracker.log(2, {"loss": 0.25})
    captured = capsys.readouterr()
    assert captured.out == "" and "rm 2/2 100%" in captured.err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (59.6, "1:00"),
        (3599, "59:59"),
        (90061, "25:01:01"),
        (math.nan, "?"),
    ],
)
def test_durations_read_as_clocks(seconds, text):
    assert duration(seconds) == text

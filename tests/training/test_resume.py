"""R1, R6, R11: a killed run continues bit for bit, and logs each step once."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

WORKER = pathlib.Path(__file__).with_name("resume_worker.py")
STEPS = 12
# Each kill is in a life of its own. A save is waited for by the next one, so a life
# that passes two saves leaves at least one behind, and the last lives do resume.
KILLS = (
    "train.step:8",
    "ckpt.before_manifest:1",
    "ckpt.before_commit:1",
    "tracking.line:2",
    "ckpt.before_read:1",
)


def start(workdir, fault=None, arguments=(STEPS,)):
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    env.pop("RLHF_FAULT", None)
    if fault:
        env["RLHF_FAULT"] = fault
    return subprocess.Popen(
        [sys.executable, WORKER, workdir, *map(str, arguments)],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(workdir, **kwargs):
    process = start(workdir, **kwargs)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def lines(workdir):
    text = (workdir / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def outcome(workdir):
    """Hash of the last state, and each step's loss."""
    losses = [(row["step"], row["loss"]) for row in lines(workdir)]
    return (workdir / "final").read_text(), losses


@pytest.fixture(scope="module")
def uncut(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uncut")
    code, errors = finish(workdir)
    assert code == 0, errors
    final, losses = outcome(workdir)
    assert [step for step, _ in losses] == list(range(1, STEPS + 1))
    return final, losses


def test_kill_9_at_five_points_ends_bit_for_bit_the_same(tmp_path, uncut):
    for fault in KILLS:
        code, errors = finish(tmp_path, fault=f"{fault}:SIGKILL")
        assert code == -signal.SIGKILL, errors
    code, errors = finish(tmp_path)
    assert code == 0, errors
    assert "resumed after step 3" in errors
    assert outcome(tmp_path) == uncut


def test_sigterm_saves_exits_143_and_continues_the_same(tmp_path, uncut):
    code, errors = finish(tmp_path, fault="train.step:5:SIGTERM")
    assert code == 143 and "the state after step 5 is saved" in errors
    assert [row["step"] for row in lines(tmp_path)] == [1, 2, 3, 4, 5]
    code, errors = finish(tmp_path)
    assert code == 0, errors
    assert outcome(tmp_path) == uncut


@pytest.mark.slow
def test_kills_cost_at_most_the_steps_since_the_last_save(tmp_path):
    """Kills at exponential intervals with a mean of 20 steps, saves every 5."""
    rng, steps, save, kills = random.Random(0), 100, 5, 0
    while True:
        life = 1 + int(rng.expovariate(1 / 20))
        code, errors = finish(
            tmp_path, fault=f"train.step:{life}:SIGKILL", arguments=(steps, save)
        )
        if code == 0:
            break
        assert code == -signal.SIGKILL, errors
        kills += 1
    done = (tmp_path / "done").read_text().splitlines()
    assert sorted({int(step) for step in done}) == list(range(steps))
    assert kills >= 2 and len(done) - steps <= kills * save
    print(f"goodput {steps / len(done):.3f} with {kills} kills")


@pytest.mark.chaos
def test_kill_9_at_a_hundred_random_instants(tmp_path, uncut):
    """Instants fall anywhere in a life: start-up, compilation, steps, saves."""
    rng, kills = random.Random(0), 0
    for run in range(1000):
        began = time.monotonic()  # each time: the machine's speed drifts
        assert finish(tmp_path / f"timing.{run}")[0] == 0
        life = time.monotonic() - began
        workdir = tmp_path / str(run)
        while True:
            process = start(workdir)
            try:
                process.communicate(timeout=rng.uniform(0.4, 1.1) * life)
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
        assert process.returncode == 0
        assert outcome(workdir) == uncut
        if kills >= 100:
            print(f"{kills} kills in {run + 1} runs")
            return
    pytest.fail(f"only {kills} kills")

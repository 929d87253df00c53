"""kill -9 at any instant of saving: the run ends in the same bits."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import kill_worker
import numpy as np
import pytest

from rlhf_jax.checkpoints import CheckpointStore, state_hash
from rlhf_jax.tracking import read_metrics

WORKER = pathlib.Path(kill_worker.__file__)
STEPS = 12
KILLS = [
    "ckpt.before_write:2",
    "ckpt.before_manifest:2",
    "ckpt.before_commit:2",
    "ckpt.before_delete:1",
    "ckpt.during_delete:2",
]


def worker(directory, steps=STEPS, fault=""):
    return subprocess.Popen(
        [sys.executable, str(WORKER), str(directory), str(steps)],
        env={**os.environ, "XLA_FLAGS": "", "RLHF_FAULT": fault},
        stdout=subprocess.PIPE,
        text=True,
    )


def finished(process):
    """What a worker prints last; its return code."""
    out, _ = process.communicate(timeout=120)
    return out.split()[-1] if out.split() else "", process.returncode


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Last state and metrics of a run that nobody kills, in this process."""
    directory = tmp_path_factory.mktemp("uninterrupted")
    last = state_hash(kill_worker.main(directory, STEPS))
    return last, [row["mean"] for row in read_metrics(directory)]


def checked(directory, uninterrupted):
    """Finishes the run and compares its state and its metrics."""
    assert finished(worker(directory)) == (uninterrupted[0], 0)
    rows = read_metrics(directory)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert [row["mean"] for row in rows] == uninterrupted[1]
    names = {path.name for path in (directory / "checkpoints").iterdir()}
    assert names == {str(STEPS - 1), str(STEPS)}


def test_a_run_killed_at_every_point_of_saving_ends_in_the_same_bits(
    tmp_path, uninterrupted
):
    reached = 0
    for kill in KILLS:
        _, code = finished(worker(tmp_path, fault=f"{kill}:SIGKILL"))
        assert code == -signal.SIGKILL, kill
        latest = CheckpointStore(tmp_path / "checkpoints").latest_step() or 0
        assert latest >= reached, "a committed step was lost"
        reached = latest
    checked(tmp_path, uninterrupted)


def test_a_save_lost_because_nobody_closed_the_store_is_said(tmp_path):
    code = (
        "import jax.numpy as jnp\n"
        "from rlhf_jax.checkpoints import CheckpointStore\n"
        "store = CheckpointStore('c')\n"
        "store.save(1, {'w': jnp.ones(3)})\n"
        "store.save(2, {'w': jnp.ones(3)})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "RLHF_FAULT": "ckpt.before_manifest:2:EIO"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "step 2 was not saved, the store was never closed" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert CheckpointStore(tmp_path / "c").latest_step() == 1


@pytest.mark.chaos
def test_a_run_killed_at_100_random_instants_ends_in_the_same_bits(
    tmp_path, uninterrupted
):
    rng = np.random.default_rng(0)
    kills, run = 0, 0
    while kills < 100:
        directory = tmp_path / str(run)
        process = worker(directory)
        process.stdout.readline()
        time.sleep(rng.uniform(0, 1.5))
        process.kill()
        _, code = finished(process)
        kills += code == -signal.SIGKILL
        if code == 0 or kills % 10 == 0:
            checked(directory, uninterrupted)
            run += 1

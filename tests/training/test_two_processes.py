"""T3: two processes on one machine train what one process trains."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import toy_lm as toy

WORKER = pathlib.Path(__file__).with_name("two_processes_worker.py")
STEPS = 6


def start(out, *more):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    return [
        subprocess.Popen(
            [sys.executable, WORKER, str(rank), str(port), str(out), *more],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]


def test_two_processes_train_the_numbers_of_one(tmp_path):
    out = tmp_path / "facts.json"
    for process in start(out):
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    facts = json.loads(out.read_text())
    update, state, want = jax.jit(toy.make()), toy.init(), []
    for step in range(STEPS):
        state, metrics = update(state, toy.batch(step))
        want.append(float(metrics["loss"]))
    assert facts["processes"] == 2 and facts["local_rows"] == [0, 8]
    assert facts["cut"], "the embedding was not cut over fsdp"
    np.testing.assert_allclose(facts["losses"], want, rtol=5e-6)


@pytest.mark.slow
def test_a_killed_process_ends_the_other_with_a_message(tmp_path):
    survivor, victim = start(tmp_path / "facts.json", "SIGKILL")
    victim.communicate(timeout=120)
    began = time.monotonic()
    output, _ = survivor.communicate(timeout=60)
    assert time.monotonic() - began < 60
    assert victim.returncode == -9 and survivor.returncode not in (0, None)
    assert "another task died" in output


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_after_the_same_step(tmp_path):
    processes = start(tmp_path / "facts.json", "SIGTERM")
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [143, 143], outputs
    first, second = (
        re.search(r"SIGTERM after step (\d+)", o).group(1) for o in outputs
    )
    assert first == second

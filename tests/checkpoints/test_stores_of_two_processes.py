"""Two processes agree on what is saved, what is damaged and what is used."""

import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from rlhf_jax.checkpoints import CheckpointStore

WORKER = pathlib.Path(__file__).with_name("store_worker_of_two.py")


@pytest.mark.slow
def test_two_processes_save_refuse_fall_back_and_restore_as_one(tmp_path):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    workers = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(port), str(process), str(tmp_path)],
            env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in (0, 1)
    ]
    for worker in workers:
        out, err = worker.communicate(timeout=240)
        assert worker.returncode == 0, err
        assert out.split()[-1] == "True"
    alone = {
        "w": jax.ShapeDtypeStruct((8, 16), jnp.float32),
        "rng": jax.random.key(0),
        "step": jnp.int32(0),
    }
    assert CheckpointStore(tmp_path).restore(alone)[0]["step"] == 5

"""What counts as a cluster, and when `jax.distributed` is started."""

import pathlib
import subprocess
import sys

import jax
import pytest

from rlhf_jax.errors import InputError
from rlhf_jax.parallel import (
    allocator,
    detect_cluster,
    keep_freed_memory,
    start_distributed,
)

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ({}, None),
        ({"JAX_COORDINATOR_ADDRESS": "h:1"}, "explicit"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "openmpi"),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
        (SLURM | {"SLURM_NTASKS": "2"}, "slurm"),
        (SLURM | {"SLURM_NTASKS": "1"}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "tpu"),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ({"MEGASCALE_COORDINATOR_ADDRESS": "h:1"}, "tpu"),
        ({"KUBERNETES_SERVICE_HOST": "h", "JOB_COMPLETION_INDEX": "0"}, "kubernetes"),
        ({"KUBERNETES_SERVICE_HOST": "h"}, None),
    ],
)
def test_a_launcher_of_several_processes_is_detected(env, name):
    assert detect_cluster(env) == name


@pytest.fixture
def calls(monkeypatch):
    made = []
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda *args, **kwargs: made.append(args)
    )
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    return made


def test_auto_without_a_cluster_starts_nothing(calls):
    assert start_distributed("auto") is False and calls == []


def test_off_is_off_inside_a_cluster(calls, monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "h:1")
    assert start_distributed("off") is False and calls == []


def test_the_environment_fills_what_is_not_given(calls, monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "h:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "4")
    monkeypatch.setenv("JAX_PROCESS_ID", "0")
    assert start_distributed("auto", process_id=2) is True
    assert calls == [(None, 4, 2, None)]


def test_on_without_an_address_says_what_to_set(monkeypatch):
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)

    def initialize(*args, **kwargs):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(InputError, match="JAX_NUM_PROCESSES"):
        start_distributed("on")


def test_an_unknown_mode_is_refused():
    with pytest.raises(InputError, match="'auto', 'on' or 'off'"):
        start_distributed("yes")


def test_the_allocator_says_whether_it_took_effect(monkeypatch):
    class Glibc:
        settings, trimmed = [], []

        def mallopt(self, name, value):
            self.settings.append((name, value))
            return 1

        def malloc_trim(self, pad):
            self.trimmed.append(pad)

    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: Glibc())
    assert keep_freed_memory() is True and len(Glibc.settings) == 4
    program = jax.jit(lambda x: x + 1)
    program(jax.numpy.ones(7))
    after_one = len(Glibc.trimmed)
    program(jax.numpy.ones(7))
    assert after_one > 0 and len(Glibc.trimmed) == after_one
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert keep_freed_memory() is False


def test_a_kubernetes_job_without_a_coordinator_runs_alone_and_says_so(
    monkeypatch, caplog
):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    monkeypatch.setattr("rlhf_jax.parallel.distributed.find_spec", lambda name: None)
    assert start_distributed("auto") is False
    assert "this one runs alone" in caplog.text


_LARGE_BLOCKS = """
import ctypes, resource
from rlhf_jax.parallel import keep_freed_memory

assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.aligned_alloc.restype = libc.malloc.restype = ctypes.c_void_p
libc.aligned_alloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

size, before = 96 << 20, peak()
for _ in range(12):  # as XLA: a block per step, and small objects that stay
    block = libc.aligned_alloc(64, size)
    ctypes.memset(block, 1, size)
    libc.free(block)
    for small in range(16, 256, 8):
        libc.malloc(small)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_large_blocks_that_are_taken_and_freed_take_their_memory_once():
    command = [sys.executable, "-c", _LARGE_BLOCKS]
    root = pathlib.Path(__file__).resolve().parents[2]
    found = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=root
    )
    assert int(found.stdout) < 3 * 96  # MiB; in one heap all twelve are: 1,055

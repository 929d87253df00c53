"""Programs compiled for TPUs that are not here; skipped without libtpu."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="needs rlhf_jax[tpu]"
    ),
]
# Most GiB per device and of collectives per update: what breaks the partitioning
# passes them at once (before rows stayed rows: 8.6 and 51 in the first line).
BUDGETS = {
    "1.3B pretrain": (3.5, 4.0),
    "1.3B reward": (6.0, 8.0),
    "1.3B ppo": (8.0, 10.0),
}


def in_its_own_process(*args):
    """libtpu and the 8 devices of the other tests do not go together."""
    env = dict(os.environ, TPU_SKIP_MDS_QUERY="1", JAX_PLATFORMS="cpu", XLA_FLAGS="")
    run = subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, env=env, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout


@pytest.mark.parametrize("case", BUDGETS)
def test_a_program_keeps_its_budget(case):
    line = json.loads(in_its_own_process("benchmarks/topologies.py", "--only", case))
    assert line["fits"], line
    peak, collectives = BUDGETS[case]
    assert line["peak_gib"] < peak and line["collectives_gib"] < collectives, line

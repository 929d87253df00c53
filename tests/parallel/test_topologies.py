"""Programs compiled for TPUs that are not here; skipped without libtpu."""

import functools
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
# Most GiB of a chip (with what lies beside the program), a tenth above what was found
# (docs/scale.md), and of collectives per run of a program where they were measured:
# what breaks the partitioning passes them at once.
BUDGETS = {
    ("1.3B sft", "update"): (2.7, 11.5),
    ("1.3B reward", "update"): (4.6, None),
    ("1.3B ppo", "rollout"): (6.6, 0.1),
    ("1.3B ppo", "assess"): (3.9, None),
    ("1.3B ppo", "update"): (6.0, None),
    ("6.7B sft", "update"): (20.0, None),
    ("6.7B sft, 256", "update"): (7.2, None),
    ("6.7B ppo", "rollout"): (53.7, 0.1),
    ("6.7B ppo", "assess"): (31.2, None),
    ("6.7B ppo", "update"): (46.2, None),
    ("175B ppo", "rollout"): (95.0, None),
    ("175B ppo", "assess"): (22.8, None),
    ("175B ppo", "update"): (69.8, None),
}


def in_its_own_process(*args):
    """libtpu and the 8 devices of the other tests do not go together."""
    env = dict(os.environ, TPU_SKIP_MDS_QUERY="1", JAX_PLATFORMS="cpu", XLA_FLAGS="")
    run = subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, env=env, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout


@functools.cache
def lines(case):
    text = in_its_own_process("benchmarks/topologies.py", "--only", case)
    return {line["program"]: line for line in map(json.loads, text.splitlines())}


@pytest.mark.parametrize(("case", "program"), BUDGETS, ids=str)
def test_a_program_keeps_its_budget(case, program):
    line = lines(case)[program]
    assert line["refused"] is None, line
    memory, sent = BUDGETS[case, program]
    assert line["peak_gib"] + line["beside_gib"] < memory, line
    assert sent is None or sum(line["sent_gib"].values()) < sent, line


def test_a_dry_run_asks_the_compiler(tmp_path):
    """It fits on one topology and not on another; what would help is told."""
    experiment = tmp_path / "x.py"
    experiment.write_text(
        "from rlhf_jax.models import gpt3_config\n"
        "from rlhf_jax.pipeline import Experiment\n"
        "from rlhf_jax.stages import pretrain\n"
        "def get_config():\n"
        "    shape = gpt3_config('125M', dtype='bfloat16')\n"
        "    stage = pretrain.Config(('x',), model=shape, tokenizer='byte', steps=10,\n"
        "                            window=1024, batch_size=64)\n"
        "    return Experiment('x', {'gpt': stage}).to_config()\n"
    )
    words = ("-m", "rlhf_jax.cli", "run", str(experiment), "--dry-run", "--topology")
    fits = in_its_own_process(*words, "v5e:4x4", "--price", "1")
    assert "10 steps of" in fits and "Compiled by libtpu" in fits
    full = in_its_own_process(*words, "v5e:1x1")
    assert "does not fit" in full and "remat='full'" in full

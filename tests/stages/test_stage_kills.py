"""kill -9 in every phase of a stage: the same parameters, and each line once."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
import stage_worker

from rlhf_jax.registry.directories import load_model
from rlhf_jax.schema import resolved_json
from rlhf_jax.tracking import read_metrics

# one kill after the other in one run of 20 iterations, a checkpoint every 4
PHASES = [
    "ppo.score:2",
    "ppo.minibatch:11",
    "ckpt.before_manifest:1",
    "ppo.ptx:6",
    "ppo.ema:4",
]
ALL_PHASES = [
    "ppo.generate:6",
    "ppo.score:6",
    "ppo.advantages:6",
    *(f"ppo.minibatch:{n}" for n in (11, 12, 13)),
    "ppo.ptx:11",
    "ppo.ema:6",
    "tracking.line:6",
    "train.step:6",
    *(f"ckpt.before_{point}:2" for point in ("write", "manifest", "commit")),
    "ckpt.before_delete:1",
    "ckpt.during_delete:1",
]


class Runs:
    """Runs of one stage in processes of their own."""

    def __init__(self, tiny, kind, name, folder, config=None):
        self.kind, self.folder = kind, folder
        self.reference = tiny.done(name)
        config = config or tiny.config(name)
        (folder / "config.json").write_text(resolved_json(config))

    def start(self, workdir, fault=""):
        """Runs until the end or until `fault` kills it; the return code."""
        words = [sys.executable, stage_worker.__file__, self.kind]
        words += [str(self.folder / "config.json"), str(workdir)]
        environment = {**os.environ, "RLHF_FAULT": fault}
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        if done.returncode not in (0, -signal.SIGKILL):
            raise AssertionError(done.stderr)
        return done.returncode

    def check(self, workdir):
        """The end of a run is, bit by bit, that of the one nobody killed."""
        assert bits(workdir / "model") == bits(self.reference / "model")
        ours, wanted = (lines(folder) for folder in (workdir, self.reference))
        assert ours == wanted
        assert [row["step"] for row in ours] == list(range(1, len(ours) + 1))


def bits(directory):
    """Every parameter's bytes by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(load_model(directory).params)
    return {
        jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves
    }


def lines(directory):
    """The metrics of each step, without how long it took."""
    rows = [dict(row) for row in read_metrics(pathlib.Path(directory))]
    for row in rows:
        row.pop("seconds")
    return json.loads(json.dumps(rows))


@pytest.fixture
def ppo_runs(tiny, tmp_path):
    return Runs(tiny, "ppo", "ppo_ptx", tmp_path)


def test_ppo_killed_five_times_ends_in_the_same_bits(ppo_runs, tmp_path):
    for phase in PHASES:
        assert ppo_runs.start(tmp_path / "run", f"{phase}:SIGKILL") == -signal.SIGKILL
    assert ppo_runs.start(tmp_path / "run") == 0
    ppo_runs.check(tmp_path / "run")


@pytest.mark.slow
def test_ppo_killed_in_every_phase_ends_in_the_same_bits(ppo_runs, tmp_path):
    for number, phase in enumerate(ALL_PHASES):
        workdir = tmp_path / str(number)
        code = ppo_runs.start(workdir, f"{phase}:SIGKILL")
        assert code == -signal.SIGKILL, phase
        assert ppo_runs.start(workdir) == 0
        ppo_runs.check(workdir)


@pytest.mark.slow
@pytest.mark.parametrize("kind, name", [("sft", "sft"), ("reward", "reward")])
def test_a_supervised_stage_killed_again_and_again_ends_in_the_same_bits(
    tiny, tmp_path, kind, name
):
    runs = Runs(tiny, kind, name, tmp_path)
    for point in ("train.step:6", "tracking.line:3", "ckpt.before_commit:2"):
        code = runs.start(tmp_path / "run", f"{point}:SIGKILL")
        assert code == -signal.SIGKILL, point
    assert runs.start(tmp_path / "run") == 0
    runs.check(tmp_path / "run")
    if name == "sft":
        kept = [d / "selected.json" for d in (tmp_path / "run", runs.reference)]
        assert kept[0].read_text() == kept[1].read_text()


@pytest.mark.chaos
def test_ppo_killed_at_a_hundred_random_points_ends_in_the_same_bits(
    ppo_runs, tmp_path
):
    rng, killed, run = np.random.default_rng(0), 0, 0
    names = [phase.split(":")[0] for phase in ALL_PHASES]
    while killed < 100:
        fault = f"{rng.choice(names)}:{rng.integers(1, 12)}:SIGKILL"
        code = ppo_runs.start(tmp_path / str(run), fault)
        killed += code == -signal.SIGKILL
        if code == 0:
            ppo_runs.check(tmp_path / str(run))
            run += 1
    assert ppo_runs.start(tmp_path / str(run)) == 0
    ppo_runs.check(tmp_path / str(run))


PIPELINE = """
from rlhf_jax.pipeline import Experiment
from rlhf_jax.stages import simulate, tokenizer

SIZES = {"pretraining": 60, "demonstrations": 20, "rankings": 8,
         "held_out_rankings": 4, "prompts": 20, "skills": 2}


def get_config():
    stages = {
        "world": simulate.Config(sizes=SIZES, vocab_size=300),
        "tokens": tokenizer.Config(("@world/pretraining.train.jsonl",), 300),
        "more": simulate.Config(world_seed=1, sizes=SIZES, vocab_size=300),
    }
    return Experiment("cut", stages).to_config()
"""


def test_a_pipeline_killed_between_stages_redoes_nothing_that_was_done(tmp_path):
    file, workdir = tmp_path / "cut.py", tmp_path / "run"
    file.write_text(PIPELINE)

    def run(fault=""):
        words = [sys.executable, "-m", "rlhf_jax.cli", "run", str(file)]
        words += ["--workdir", str(workdir)]
        done = subprocess.run(
            words,
            env={**os.environ, "RLHF_FAULT": fault},
            capture_output=True,
            text=True,
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode

    def marks():
        return {p.parent.name: p.read_bytes() for p in workdir.glob("*/done.json")}

    assert run("pipeline.before_stage:2:SIGKILL") == -signal.SIGKILL
    first = marks()
    assert set(first) == {"world"}
    written = (workdir / "world/prompts.jsonl").stat().st_mtime_ns
    assert run("pipeline.before_done:2:SIGKILL") == -signal.SIGKILL
    second = marks()
    assert set(second) == {"world", "tokens"} and second["world"] == first["world"]
    assert run() == 0
    last = marks()
    assert set(last) == {"world", "tokens", "more"}
    assert {name: last[name] for name in second} == second
    assert (workdir / "world/prompts.jsonl").stat().st_mtime_ns == written
    assert run() == 0 and marks() == last

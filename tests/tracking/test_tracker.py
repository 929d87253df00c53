"""Each step is written once, also by runs that were killed, to every writer."""

import json
import os
import resource
import subprocess
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.errors import InputError
from rlhf_jax.faults import injected
from rlhf_jax.tracking import LineFile, RunTracker, read_metrics


def steps(directory):
    return [row["step"] for row in read_metrics(directory)]


def run(directory, first, last, **options):
    with RunTracker(directory, tensorboard=False, **options) as tracker:
        tracker.rewind(first - 1)
        for step in range(first, last + 1):
            tracker.log(step, {"loss": 1.0 / step})


def test_a_line_is_what_was_logged(tmp_path):
    metrics = {"a": 0.1, "b": np.float32(2.5), "c": jnp.int32(3), "d": [1.0, 2.0]}
    with RunTracker(tmp_path, tensorboard=False) as tracker:
        tracker.log(1, metrics | {"e": None, "f": "text", "g": True})
    (row,) = read_metrics(tmp_path / "metrics.jsonl")
    expected = {"step": 1, "a": 0.1, "b": 2.5, "c": 3, "d": [1.0, 2.0]}
    assert row == expected | {"e": None, "f": "text", "g": True}


def test_numbers_that_are_not_finite_are_valid_json_and_come_back(tmp_path):
    with RunTracker(tmp_path, tensorboard=False) as tracker:
        tracker.log(1, {"nan": np.nan, "inf": np.inf, "ninf": jnp.float32(-np.inf)})
    text = (tmp_path / "metrics.jsonl").read_text()

    def refuse(constant):
        raise AssertionError(constant)

    json.loads(text, parse_constant=refuse)
    (row,) = read_metrics(tmp_path)
    assert np.isnan(row["nan"]) and row["inf"] == np.inf and row["ninf"] == -np.inf


@given(
    cuts=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4)), max_size=5),
    torn=st.booleans(),
)
def test_each_step_stands_once_whatever_was_cut_and_resumed(
    tmp_path_factory, cuts, torn
):
    """Runs of some steps, each continued from some steps before its end."""
    directory, done = tmp_path_factory.mktemp("run"), 0
    for length, back in cuts:
        run(directory, done + 1, done + length)
        if torn:
            with open(directory / "metrics.jsonl", "a") as file:
                file.write('{"step": 99, "los')
        done = max(0, done + length - back)
    run(directory, done + 1, done + 3)
    assert steps(directory) == list(range(1, done + 4))


@pytest.mark.parametrize(
    "tail",
    [b'{"step": 4', b'{"step": 4, "x": 1}', b"\n\0\0\0", b"\0" * 40 + b"\n", b"{"],
)
def test_a_torn_end_is_repaired_aloud(tmp_path, tail, caplog):
    run(tmp_path, 1, 3)
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(tail)
    tracker = RunTracker(tmp_path, tensorboard=False)
    assert "a torn last line was removed" in caplog.text
    tracker.log(4, {})
    tracker.close()
    assert steps(tmp_path) == [1, 2, 3, 4]


def test_a_step_written_before_is_refused(tmp_path):
    with RunTracker(tmp_path, tensorboard=False) as tracker:
        tracker.log(2, {})
        for step in (1, 2):
            with pytest.raises(ValueError, match=f"step {step} is logged after step 2"):
                tracker.log(step, {})
        tracker.rewind(1)
        tracker.log(2, {"again": 1})
    assert read_metrics(tmp_path) == [{"step": 2, "again": 1}]


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n{"step": 3}\n')
    with pytest.raises(InputError, match="metrics.jsonl:2: not a line of metrics"):
        RunTracker(tmp_path, tensorboard=False)
    with pytest.raises(InputError, match="metrics.jsonl:2: not JSON"):
        read_metrics(tmp_path)


def test_a_full_disk_leaves_whole_lines_and_says_so(tmp_path):
    with RunTracker(tmp_path, tensorboard=False) as tracker:
        tracker.log(1, {})
        with injected("tracking.line:1:ENOSPC"):
            with pytest.raises(
                InputError, match="step 2 could not be written: No space"
            ):
                tracker.log(2, {})
        tracker.log(2, {})
    assert steps(tmp_path) == [1, 2]


def test_a_line_that_fits_only_in_part_is_taken_back(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    lines = LineFile(tmp_path / "lines.jsonl")
    lines.append(1, {"x": "a" * 100})
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(InputError, match="step 2 could not be written"):
            lines.append(2, {"x": "b" * 200})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    lines.append(2, {"x": "c"})
    lines.close()
    assert [row["x"][0] for row in read_metrics(lines.path)] == ["a", "c"]


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/run: Not a directory"):
        RunTracker(tmp_path / "file" / "run")


def test_no_metrics_are_said_plainly(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_metrics(tmp_path)


def test_texts_are_kept_and_rewound_with_their_steps(tmp_path):
    with RunTracker(tmp_path, tensorboard=False) as tracker:
        for step in (1, 2, 3):
            tracker.log(step, {})
            tracker.text(step, "sample", f"répondu\n{step}")
            tracker.text(step, "prompt", "?")
    with RunTracker(tmp_path, tensorboard=False) as tracker:
        tracker.rewind(2)
    rows = [json.loads(line) for line in open(tmp_path / "texts.jsonl")]
    assert [(row["step"], row["name"]) for row in rows] == [
        (step, name) for step in (1, 2) for name in ("sample", "prompt")
    ]
    assert rows[2]["text"] == "répondu\n2"


def test_tensorboard_reads_back_each_step_once_after_a_resume(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, last in ((1, 5), (4, 8)):
        with RunTracker(tmp_path) as tracker:
            tracker.rewind(first - 1)
            for step in range(first, last + 1):
                tracker.log(step, {"loss": step + first / 10, "name": "x"})
            tracker.text(last, "sample", "héllo")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = [(event.step, round(event.value, 3)) for event in events.Scalars("loss")]
    assert found == [(s, s + 0.1) for s in (1, 2, 3)] + [
        (s, s + 0.4) for s in (4, 5, 6, 7, 8)
    ]
    assert events.Tags()["scalars"] == ["loss"]
    text = events.Tensors("sample")[-1].tensor_proto.string_val[0]
    assert text.decode() == "héllo"


class FakeWandb(types.SimpleNamespace):
    """What the tracker uses of wandb."""

    def __init__(self):
        super().__init__(inits=[], logged=[], finished=0)

    def init(self, **options):
        self.inits.append(options)
        return self

    def log(self, metrics, step):
        self.logged.append((step, metrics))

    def finish(self):
        self.finished += 1


def test_wandb_gets_numbers_and_one_run_over_resumes(tmp_path, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    run(tmp_path, 1, 2, wandb="instructgpt", config={"a": 1})
    run(tmp_path, 3, 3, wandb="instructgpt")
    assert [step for step, _ in fake.logged] == [1, 2, 3] and fake.finished == 2
    first, second = fake.inits
    assert first["id"] == second["id"] and first["resume"] == "allow"
    assert first["project"] == "instructgpt" and first["config"] == {"a": 1}


def test_wandb_that_is_absent_is_said_plainly(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"pip install 'rlhf_jax\[wandb\]'"):
        RunTracker(tmp_path, tensorboard=False, wandb="project")


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    with RunTracker(tmp_path / "run", total_steps=3) as tracker:
        tracker.rewind(0)
        tracker.log(1, {"loss": 1.0})
        tracker.text(1, "a", "b")
    assert not (tmp_path / "run").exists()


def test_the_lines_survive_a_kill(tmp_path):
    code = (
        "from rlhf_jax.tracking import RunTracker\n"
        "tracker = RunTracker('.', tensorboard=False)\n"
        "for step in range(1, 100): tracker.log(step, {'loss': step})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "RLHF_FAULT": "tracking.line:7:SIGKILL"},
    )
    assert done.returncode == -9
    assert steps(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_wandb_that_refuses_is_one_line_that_says_what_helps(tmp_path, monkeypatch):
    def init(**options):
        raise RuntimeError("no API key\nconfigured")

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    with pytest.raises(InputError, match="wandb: no API key configured; .*offline"):
        RunTracker(tmp_path, tensorboard=False, wandb="project")

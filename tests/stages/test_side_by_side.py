"""Stages side by side: at the same time, in the right order, each with its cores."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import jax
import pytest
import tiny_experiment
from fake_stage import install
from test_stage_kills import bits, lines

from rlhf_jax.errors import InputError, Preempted, RunError
from rlhf_jax.pipeline import side_by_side
from rlhf_jax.pipeline.content import content_hashes
from rlhf_jax.pipeline.experiment import Experiment
from rlhf_jax.pipeline.finished import mark_done
from rlhf_jax.pipeline.runner import run_experiment
from rlhf_jax.pipeline.side_by_side import run_side_by_side

SECONDS = 60  # after which a child that waits in vain gives up

# A stage as a process: waits for the files it is told to wait for, notes its cores,
# and marks itself as done.
CHILD = f"""
import json, os, pathlib, sys, time
workdir, name, mode, waits, manifest, done = sys.argv[1:]
folder = pathlib.Path(workdir, name)
folder.mkdir(exist_ok=True)
(folder / "begun").touch()
until = time.monotonic() + {SECONDS}
while not all(pathlib.Path(workdir, w).exists() for w in waits.split()):
    if time.monotonic() > until:
        sys.exit(9)
    time.sleep(0.01)
print(name, "speaks")
print(name, "warns", file=sys.stderr)
if mode == "fail":
    sys.exit(3)
if mode == "signal":
    os.kill(os.getppid(), 15)
    time.sleep({SECONDS})
if mode == "die":
    os.kill(os.getpid(), 9)
(folder / "cores").write_text(json.dumps(sorted(os.sched_getaffinity(0))))
(folder / "manifest.json").write_text(manifest)
(folder / "done.json").write_text(done)
"""


@dataclasses.dataclass
class Config:
    sources: tuple[str, ...] = ()


def run(config, workdir, settings):
    pathlib.Path(workdir, "alone").touch()


@pytest.fixture(autouse=True)
def fake_stage(monkeypatch):
    install(monkeypatch, Config, run)
    monkeypatch.setattr(side_by_side, "_cores", lambda: [0, 1])


def diamond():
    return Experiment(
        "diamond",
        {
            "first": Config(),
            "left": Config(("@first/x",)),
            "right": Config(("@first/x",)),
            "third": Config(("@first/x",)),
            "last": Config(("@left/x", "@right/x", "@third/x")),
        },
    )


def marks(workdir, wanted):
    """The two files of a finished stage that left nothing."""
    folder = pathlib.Path(workdir, "empty")
    folder.mkdir(parents=True, exist_ok=True)
    mark_done(folder, wanted)
    texts = [(folder / name).read_text() for name in ("manifest.json", "done.json")]
    shutil.rmtree(folder)
    return texts


def commands(experiment, workdir, waits=None, modes=None):
    hashes = content_hashes(experiment)

    def command(name):
        mode, files = (modes or {}).get(name, ""), (waits or {}).get(name, "")
        words = [sys.executable, "-c", CHILD, str(workdir), name, mode, files]
        return [*words, *marks(workdir, hashes[name])]

    return command


def run_it(workdir, waits=None, modes=None, **options):
    made = diamond()
    command = commands(made, workdir, waits, modes)
    options = {"jobs": 2, "say": lambda _: None, **options}
    return run_side_by_side(made, workdir, command, **options)


def test_independent_stages_run_at_the_same_time_and_single_ones_in_this_process(
    tmp_path, capfd
):
    # each of the two waits for the other to have begun; the third for one to be done
    waits = {"left": "right/begun", "right": "left/begun", "third": "left/done.json"}
    run_it(tmp_path, waits)
    alone = {p.parent.name for p in tmp_path.glob("*/alone")}
    assert alone == {"first", "last"}
    cores = [
        json.loads((tmp_path / n / "cores").read_text()) for n in ("left", "right")
    ]
    assert sorted(cores) == [[0], [1]]
    told = capfd.readouterr()
    assert "left speaks" in told.out and "right warns" in told.err


def test_never_more_than_the_jobs(tmp_path):
    # the third may only begin when one of the first two is done
    waits = {"left": "right/begun", "right": "left/begun", "third": ""}
    run_it(tmp_path, waits)
    ends = [(tmp_path / n / "done.json").stat().st_mtime_ns for n in ("left", "right")]
    assert (tmp_path / "third/begun").stat().st_mtime_ns >= min(ends)


def test_what_is_done_is_told_and_not_run_again(tmp_path):
    run_it(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/done.json")}
    told = []
    made = diamond()
    run_side_by_side(made, tmp_path, commands(made, tmp_path), jobs=2, say=told.append)
    assert sum("done before, skipped" in line for line in told) == 5
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/done.json")}


@pytest.mark.parametrize(("mode", "code"), [("fail", 3), ("die", 137)])
def test_a_failure_ends_the_others_and_has_its_exit_code(tmp_path, mode, code):
    waits = {"left": "right/begun", "right": "never"}
    with pytest.raises(RunError, match="the stage 'left' failed") as caught:
        run_it(tmp_path, waits, {"left": mode})
    assert caught.value.exit_code == code
    assert not (tmp_path / "right/done.json").exists()
    assert not (tmp_path / "last").exists()


def test_a_stage_that_cannot_be_started_leaves_none_running(tmp_path):
    made = diamond()
    command = commands(made, tmp_path, {"left": "never"})
    commands_of = lambda n: ["/no/such/program"] if n == "right" else command(n)  # noqa: E731
    with pytest.raises(FileNotFoundError):
        run_side_by_side(made, tmp_path, commands_of, jobs=2, say=lambda _: None)
    assert not (tmp_path / "left/done.json").exists()


def test_a_signal_ends_the_stages_and_nothing_begins_after_it(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted, match="signal 15"):
        run_it(tmp_path, {"left": "right/begun"}, {"left": "signal", "right": "signal"})
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (tmp_path / "third").exists()


def test_a_stage_whose_inputs_are_not_done_raises_its_own_error(tmp_path):
    with pytest.raises(InputError, match="needs the stage 'first', which is not done"):
        run_it(tmp_path, only=["left", "right"])


def test_jobs_are_positive_and_no_more_than_cores(tmp_path):
    with pytest.raises(InputError, match="expected 1 or more"):
        run_it(tmp_path, jobs=0)
    told = []
    run_it(tmp_path, jobs=3, say=told.append)
    assert "--jobs: 2 at a time, as many as cores" in told
    assert (tmp_path / "third/done.json").exists()


def test_on_an_accelerator_one_stage_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    told = []
    run_it(tmp_path, say=told.append)
    assert any("one stage at a time" in line for line in told)
    assert len(list(tmp_path.glob("*/alone"))) == 5


def test_a_stage_that_another_process_runs_is_refused(tmp_path):
    holder = (
        "import pathlib, sys; from rlhf_jax.pipeline.locks import sole_runner\n"
        f"with sole_runner(pathlib.Path({str(tmp_path / 'first')!r})):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", holder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"process {child.pid} is running"):
            run_experiment(diamond(), tmp_path, only=["first"], say=lambda _: None)
    finally:
        child.kill()
        child.wait()
    run_experiment(diamond(), tmp_path, only=["first"], say=lambda _: None)


TOGETHER = ("sft", "ppo_init")


def command_line(workdir, *more, cores=None):
    """`rlhf-jax run` on one device, in a process of its own."""
    words = [sys.executable, "-m", "rlhf_jax.cli", "run", tiny_experiment.__file__]
    words += ["--workdir", str(workdir), "--no-report", *more]
    child = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"},
    )
    if cores is not None:
        os.sched_setaffinity(child.pid, cores)
    return child


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run whose world and pretraining are done."""
    workdir = tmp_path_factory.mktemp("begun")
    child = command_line(workdir, "--stages", "world,pretrain")
    told = child.communicate()[0]
    assert child.returncode == 0, told
    return workdir


@pytest.mark.slow
def test_the_command_gives_the_same_bits_as_one_stage_after_the_other(begun, tmp_path):
    cores = os.sched_getaffinity(0)
    if len(cores) != 2:
        pytest.skip("a stage's share of other than two cores is not one core")
    only = ["--stages", ",".join(TOGETHER), "--config.sft.epochs=1"]
    # products on one thread and on two differ in rounding
    runs = {"one": ([], {min(cores)}), "two": (["--jobs", "2"], None)}
    for name, (jobs, share) in runs.items():
        shutil.copytree(begun, tmp_path / name)
        child = command_line(tmp_path / name, *only, *jobs, cores=share)
        told = child.communicate()[0]
        assert child.returncode == 0, told
    for name in TOGETHER:
        one, two = tmp_path / "one" / name, tmp_path / "two" / name
        assert bits(one / "model") == bits(two / "model")
        assert lines(one) == lines(two)


@pytest.mark.slow
def test_sigterm_reaches_the_stages_which_save_their_state(begun, tmp_path):
    shutil.copytree(begun, tmp_path / "run")
    long = [f"--config.{name}.epochs=4000" for name in TOGETHER]
    only = ["--stages", ",".join(TOGETHER), "--jobs", "2", *long]
    child = command_line(tmp_path / "run", *only)
    training = set()
    for line in child.stdout:
        if "loss" in line:  # a line of progress
            training |= {name for name in TOGETHER if line.startswith(f"{name} ")}
        if len(training) == 2:
            break
    child.send_signal(signal.SIGTERM)
    rest = child.stdout.read()
    assert child.wait() == 143, rest
    for name in TOGETHER:
        folder = tmp_path / "run" / name
        assert any((folder / "checkpoints").iterdir())
        assert not (folder / "done.json").exists()

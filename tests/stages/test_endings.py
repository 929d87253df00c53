"""Signals, full disks and links: how a run ends, and what it does not touch."""

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys

import jax.numpy as jnp
import pytest
from fake_stage import install
from test_pipeline import Config, chain, quiet, ran, run

from rlhf_jax.cli import main
from rlhf_jax.errors import InputError, NumericsError, Preempted
from rlhf_jax.pipeline.runner import run_experiment
from rlhf_jax.storage import looks_local, write_text
from rlhf_jax.training import above, exhausted
from rlhf_jax.training.session import RunSettings, open_session

SETTINGS = RunSettings(tensorboard=False, save_every=2, fetch_every=1)


@pytest.fixture(autouse=True)
def hang_ups_count():
    """Under nohup they are ignored, by whatever is started there too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(autouse=True)
def fake_stage(monkeypatch):
    install(monkeypatch, Config, run)
    ran.clear()


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)],
)
def test_a_signal_during_start_up_ends_the_command_whatever_swallows_it(
    tmp_path, number, code
):
    (tmp_path / "x.py").write_text(
        "import os\n"
        "try:\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "    for _ in range(10**7): pass\n"
        "except BaseException:\n"
        "    pass\n"
        "def get_config(): pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "rlhf_jax.cli", "run", str(tmp_path / "x.py")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    assert done.stderr == (
        f"rlhf-jax run: {number.name}: ended; run again to continue\n"
    )


def test_the_handlers_of_a_caller_are_back_after_a_command(tmp_path, capsys):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    assert main(["run", str(tmp_path / "absent.py")]) == 2
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def counted(workdir, steps, *, during=None, kl=(), alarms=()):
    """Counts steps; `during` is called with each index."""
    taken = []

    def step_fn(state, step):
        taken.append(step)
        if during is not None:
            during(step)
        value = kl[step] if step < len(kl) else 0.0
        return state, {"loss": jnp.float32(1.0), "kl": jnp.float32(value)}

    with open_session(workdir, SETTINGS, identity=Config(), alarms=alarms) as session:
        exhausted(session.loop(step_fn, lambda: {"w": jnp.zeros(2)}, steps=steps))
    return taken


def test_a_hang_up_saves_like_a_termination(tmp_path):
    def hang_up(step):
        if step == 2:
            os.kill(os.getpid(), signal.SIGHUP)

    with pytest.raises(Preempted, match="SIGHUP: the state after step 3 is saved"):
        counted(tmp_path, 6, during=hang_up)
    assert counted(tmp_path, 6) == [3, 4, 5]


def test_alarms_and_bad_batches_of_steps_that_run_again_are_taken_back(tmp_path):
    def killed(step):
        if step == 3:
            raise RuntimeError("killed")

    warn = (above("kl", 1.0),)
    with pytest.raises(RuntimeError):
        counted(tmp_path, 6, during=killed, kl=[5.0, 0.0, 5.0], alarms=warn)
    (tmp_path / "bad_batches").mkdir()
    (tmp_path / "bad_batches/step_00000003.json").write_text("{}")
    counted(tmp_path, 6, kl=[5.0, 0.0, 0.0], alarms=warn)
    rows = [json.loads(line) for line in (tmp_path / "alarms.jsonl").open()]
    assert [(row["step"], row["alarm"]) for row in rows] == [(1, "kl too high")]
    assert list((tmp_path / "bad_batches").iterdir()) == []


def test_a_lasting_alarm_is_not_told_again_because_a_run_was_cut(tmp_path):
    warn = (above("kl", 1.0),)
    counted(tmp_path, 4, kl=[5.0] * 9, alarms=warn)
    counted(tmp_path, 8, kl=[5.0] * 9, alarms=warn)
    assert len((tmp_path / "alarms.jsonl").read_text().splitlines()) == 1


def test_metrics_that_are_gone_beside_a_checkpoint_are_said(tmp_path, caplog):
    counted(tmp_path, 4)
    (tmp_path / "metrics.jsonl").unlink()
    assert counted(tmp_path, 6) == [4, 5]
    assert "lacks 4 of the 4 steps before the checkpoint" in caplog.text


def test_what_killed_writers_left_is_cleared(tmp_path):
    run_experiment(chain(), tmp_path, only=["one"], say=quiet)
    (tmp_path / "one/done.json").unlink()
    mine = tmp_path / f".running.json.{os.getpid()}.partial"
    left = [tmp_path / ".x.json.999999999.partial", tmp_path / "one/.y.jsonl.7.partial"]
    for path in (mine, *left):
        path.write_text("half")
    run_experiment(chain(), tmp_path, say=quiet)
    assert [path.exists() for path in (mine, *left)] == [True, False, False]


def test_an_error_of_the_system_is_one_line(tmp_path, capsys, monkeypatch):
    from rlhf_jax.cli import run as command

    def full(args):
        raise OSError(errno.ENOSPC, "No space left on device", "runs/x/metrics.jsonl")

    monkeypatch.setattr(command, "run", full)
    assert main(["run", "x.py"]) == 2
    assert capsys.readouterr().err == (
        "rlhf-jax run: runs/x/metrics.jsonl: No space left on device; make room on "
        "that disk and run again\n"
    )
    monkeypatch.undo()
    assert main(["run", "x" * 300 + ".py"]) == 2
    assert "Traceback" not in capsys.readouterr().err


CANARY = "not to be touched"


@pytest.mark.parametrize(
    "link", [".locks/one", "one/metrics.jsonl", "one", "experiment.json", ".locks"]
)
def test_a_link_in_a_run_directory_is_refused_and_not_followed(tmp_path, link):
    outside, inside = tmp_path / "outside", tmp_path / "run"
    target = outside / "file" if "." in pathlib.Path(link).name else outside
    outside.mkdir()
    (outside / "file").write_text(CANARY)
    (inside / link).parent.mkdir(parents=True, exist_ok=True)
    (inside / link).symlink_to(target)
    with pytest.raises(InputError, match="a link: a run reads and writes only files"):
        run_experiment(chain(), inside, say=quiet)
    assert ran == []
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text() == CANARY


def test_a_pipe_in_a_run_directory_is_refused_and_a_linked_run_directory_is_not(
    tmp_path,
):
    (tmp_path / "there").mkdir()
    (tmp_path / "run").symlink_to("there")
    run_experiment(chain(), tmp_path / "run", say=quiet)
    os.mkfifo(tmp_path / "there/one/pipe")
    with pytest.raises(InputError, match="pipe: no regular file"):
        run_experiment(chain(), tmp_path / "run", say=quiet)


def test_a_python_call_follows_no_link_either(tmp_path):
    (tmp_path / "canary").write_text(CANARY)
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage/metrics.jsonl").symlink_to(tmp_path / "canary")
    with pytest.raises(InputError, match="a link"):
        counted(tmp_path / "stage", 2)
    assert (tmp_path / "canary").read_text() == CANARY


def test_a_name_that_looks_like_a_path_is_not_asked_of_the_hub(tmp_path, monkeypatch):
    from rlhf_jax.data import load_tokenizer
    from rlhf_jax.models import load_pretrained

    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for name in ("runs/typo", "./a/b", "/a/b", "~/model", "a/b/c", "model/", "@x/y"):
        assert looks_local(name)
        for load in (load_pretrained, load_tokenizer):
            with pytest.raises(InputError, match="not a hub name"):
                load(name)
    assert not looks_local("gpt2") and not looks_local("EleutherAI/pythia-70m")


def test_a_new_file_takes_the_place_of_a_link_and_not_of_what_it_leads_to(tmp_path):
    (tmp_path / "canary").write_text(CANARY)
    (tmp_path / "report.html").symlink_to(tmp_path / "canary")
    write_text(tmp_path / "report.html", "new")
    assert (tmp_path / "canary").read_text() == CANARY
    assert NumericsError.exit_code == 3

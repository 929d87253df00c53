"""A disk that is full, read-only or gone: said once, clearly, and nothing is lost."""

import logging
import os
import resource
import shutil
import subprocess
import sys

import jax
import pytest
import states

from rlhf_jax.checkpoints import CheckpointStore
from rlhf_jax.errors import CheckpointError
from rlhf_jax.faults import injected


def large(seed):
    """1.6 MB that do not compress."""
    return {"w": jax.random.normal(jax.random.key(seed), (400_000,))}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 6 MB; only root can mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small tmpfs needs root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_keeps_earlier_steps_and_gives_its_space_back(small_disk, capfd):
    store = CheckpointStore(small_disk / "checkpoints", keep_last=9)
    failed = 0
    for step in range(1, 9):
        free = shutil.disk_usage(small_disk).free
        try:
            store.save(step, large(step))
            store.wait()
        except CheckpointError as error:
            failed += 1
            message = str(error)
            assert f"step {step} could not be saved in {store.directory}" in message
            assert "No space left on device; the state takes 1.6 MB, " in message
            assert "MB are free" in message and "\n" not in message
            assert shutil.disk_usage(small_disk).free == free
    kept = store.steps()
    assert failed >= 3 and kept == list(range(1, 9 - failed))
    restored, _ = store.restore(large(0))
    assert (restored["w"] == large(kept[-1])["w"]).all()
    shutil.rmtree(store.directory / "1")
    store.save(9, large(9))  # the same store works again
    assert store.latest_step() == 9
    store.close()
    out, err = capfd.readouterr()
    assert (out, err) == ("", ""), "the error reaches the caller, not the screen"


def test_the_error_of_a_save_comes_with_the_next_call_at_the_latest(tmp_path):
    for call in ("save", "wait", "latest_step", "restore", "close"):
        store = CheckpointStore(tmp_path / call)
        store.save(1, states.small(1))
        store.wait()
        with injected("ckpt.before_manifest:1:ENOSPC"):
            store.save(2, states.small(2))
            arguments = {"save": (3, states.small(3)), "restore": (states.small(),)}
            with pytest.raises(CheckpointError, match="step 2 could not be saved"):
                getattr(store, call)(*arguments.get(call, ()))
        assert [path.name for path in store.directory.iterdir()] == ["1"]
        store.close()


@pytest.mark.parametrize("code", ["ENOSPC", "EACCES", "EIO", "EROFS"])
@pytest.mark.parametrize(
    "point", ["ckpt.before_write", "ckpt.before_manifest", "ckpt.before_commit"]
)
def test_a_failed_save_is_retried_at_the_same_step(tmp_path, point, code):
    store = CheckpointStore(tmp_path)
    store.save(1, states.small(1))
    with injected(f"{point}:1:{code}"):
        store.wait() if point == "ckpt.before_write" else None
        with pytest.raises(CheckpointError, match="could not be saved"):
            store.save(2, states.small(2))
            store.wait()
    store.save(2, states.small(2), {"again": True})
    store.wait()
    assert store.restore(states.small())[1] == {"again": True}
    store.close()


def test_on_save_error_continue_logs_and_goes_on(tmp_path, caplog):
    store = CheckpointStore(tmp_path, on_save_error="continue")
    with injected("ckpt.before_manifest:2:ENOSPC,ckpt.before_write:3:EIO"):
        for step in (1, 2, 3, 4):
            store.save(step, states.small(step))
        store.close()
    assert store.steps() == [1, 4]
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert ["step 2" in errors[0], "step 3" in errors[1]] == [True, True]
    assert all("going on without" in error for error in errors)


def test_a_limit_on_file_sizes_is_named(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    store = CheckpointStore(tmp_path)
    store.save(1, states.small(1))
    store.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(CheckpointError, match="File too large"):
            store.save(2, large(1))
            store.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.steps() == [1]
    store.save(2, large(2))
    assert store.latest_step() == 2
    store.close()


def test_a_directory_removed_during_the_run_is_noticed(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints")
    store.save(1, states.small(1))
    store.wait()
    shutil.rmtree(store.directory)
    with pytest.raises(CheckpointError, match="was removed during the run"):
        store.save(2, states.small(2))
    assert not store.directory.exists()


def test_files_lost_during_a_save_are_noticed_before_it_counts(tmp_path):
    store = CheckpointStore(tmp_path, keep_last=1)
    store.save(1, states.small(1))
    store.wait()
    with injected("ckpt.before_manifest:1:sleep=0.5"):
        store.save(2, states.small(2))
        while not (tmp_path / "2.writing").exists():
            pass
        shutil.rmtree(tmp_path / "2.writing" / "d")
        with pytest.raises(CheckpointError, match="step 2 could not be saved"):
            store.wait()
    assert store.steps() == [1] and [p.name for p in tmp_path.iterdir()] == ["1"]
    store.close()


def test_a_read_only_directory_is_said_at_the_first_save(tmp_path):
    directory = tmp_path / "checkpoints"
    directory.mkdir()
    if os.geteuid() == 0:  # root ignores permissions, but not a read-only mount
        mount = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(directory)]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("root cannot mount here, and ignores permissions")
    else:
        directory.chmod(0o500)
    try:
        store = CheckpointStore(directory)
        with pytest.raises(CheckpointError, match="Read-only|Permission denied") as e:
            store.save(1, states.small(1))
            store.wait()
        assert "\n" not in str(e.value)
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", "-l", str(directory)], check=True)


PREPARATION = {
    "below a file": "path.write_text(''); path /= 'd'",
    "removed after the first save": "remove = shutil.rmtree",
    "file too large": "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000,) * 2)",
}


@pytest.mark.parametrize("how", list(PREPARATION))
def test_a_process_whose_save_fails_prints_one_line_and_ends(tmp_path, how):
    """Nothing that waits for the failed save holds the process back."""
    code = (
        "import pathlib, resource, shutil, time, jax\n"
        "from rlhf_jax.checkpoints import CheckpointStore\n"
        "from rlhf_jax.errors import CheckpointError\n"
        "path, remove = pathlib.Path('c'), str\n"
        f"{PREPARATION[how]}\n"
        "try:\n"
        "    store = CheckpointStore(path)\n"
        "    state = {'w': jax.random.normal(jax.random.key(0), (100_000,))}\n"
        "    store.save(1, state)\n"
        "    store.wait()\n"
        "    remove(path)\n"
        "    store.save(2, state)\n"
        "except CheckpointError as error:\n"
        "    print(error)\n"
        "    raise SystemExit(error.exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (4, "")
    assert len(done.stdout.splitlines()) == 1
    assert "could not be saved" in done.stdout


def test_a_store_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    store = CheckpointStore(tmp_path / "file" / "checkpoints")
    with pytest.raises(CheckpointError, match="Not a directory"):
        store.save(1, states.small(1))

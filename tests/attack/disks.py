"""Disks that are full, that can only be read, and folders of other people."""

import contextlib
import io
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import kills
import small_run
from outcomes import Outcomes

from rlhf_jax.cli import main

NOBODY = 65534


@contextlib.contextmanager
def small_disk(path: pathlib.Path, size: int) -> Iterator[bool]:
    """A file system of `size` bytes in memory; gives whether it could be mounted."""
    path.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    mounted = subprocess.run(words, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(path)], check=True)


def remount(path: pathlib.Path, options: str) -> None:
    """Changes the size of a small disk, or makes it read-only."""
    words = ["mount", "-o", f"remount,{options}", str(path)]
    subprocess.run(words, check=True, capture_output=True)


def ran(workdir: pathlib.Path) -> tuple[int, str]:
    """(exit code, what is told) of `rlhf-jax run` in this process."""
    told = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(told):
        code = main(["run", small_run.__file__, "--workdir", str(workdir)])
    return code, told.getvalue()


def full(
    whole: pathlib.Path, folder: pathlib.Path, outcomes: Outcomes, count: int
) -> None:
    """A disk that is full at `count` points of a run, each a little later."""
    wanted = kills.run_bits(whole)
    size = sum(path.stat().st_size + 4096 for path in whole.rglob("*"))
    steps = [int(size * (number + 1) / count) for number in range(count)]
    with small_disk(folder, steps[0]) as mounted:
        if not mounted:
            outcomes.skip("full disk", "mounting a small tmpfs needs root")
            return
        for step in [*steps, 4 * size]:
            remount(folder, f"size={step}")
            outcomes.add("full disk", _outcome(folder / "run"), f"{step} bytes")
        found = kills.run_bits(folder / "run")
        same = found == wanted
        wrong = sorted(n for n in {*found, *wanted} if found.get(n) != wanted.get(n))
        outcomes.add("full disk, end", "same bits" if same else "OTHER BITS", wrong[:9])
        remount(folder, "ro")
        outcomes.add("read-only", _outcome(folder / "run"))
        outcomes.add("read-only", _outcome(folder / "new"))


def _outcome(workdir: pathlib.Path) -> str:
    try:
        code, told = ran(workdir)
    except Exception as error:  # the command would end in a traceback
        return f"TRACEBACK {error!r}"[:9]
    if code == 0:
        return "came to its end"
    last = told.strip().splitlines()[-1:] or [""]
    wordy = len(told.strip().splitlines()) > 40 or "Traceback" in told
    return (
        "one line" if last[0].startswith("rlhf-jax run: ") and not wordy else "SILENT"
    )


def others(folder: pathlib.Path, outcomes: Outcomes) -> None:
    """Run directories that belong to somebody else and may not be written."""
    if os.geteuid():
        outcomes.skip("other people", "only root can become another person")
        return
    theirs = folder / "theirs"
    (theirs / "run").mkdir(parents=True, exist_ok=True)
    for mode, workdir in ((0o755, theirs / "run"), (0o700, theirs / "run")):
        os.chmod(theirs, mode)
        try:
            done = _as_nobody(workdir)
        except PermissionError:
            outcomes.skip("other people", "another person cannot start this Python")
            return
        told = done.stderr.strip().splitlines()
        if done.returncode == 1 and "No module named" in done.stderr:
            outcomes.skip("other people", "another person cannot read this program")
            return
        clear = done.returncode == 2 and told and "Permission denied" in told[-1]
        outcomes.add("other people", "one line" if clear else "SILENT", done.stderr)


def _as_nobody(workdir: pathlib.Path) -> subprocess.CompletedProcess:
    root = pathlib.Path(small_run.__file__).parents[2]
    words = [sys.executable, "-m", "rlhf_jax.cli", "run", small_run.__file__]
    return subprocess.run(
        [*words, "--workdir", str(workdir)],
        capture_output=True,
        text=True,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(root), "HOME": "/nonexistent"},
    )

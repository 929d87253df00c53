"""A run of seven stages, ended again and again: same bits, nothing beside it touched.

Each try starts `rlhf-jax run`, waits for a random time and ends it in one of `WAYS`;
the next one goes on from there. Where a run comes to its end, its bits are compared
with those of the run that nobody ended, and another one begins.
"""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import small_run
from outcomes import Outcomes

from rlhf_jax.checkpoints.manifest import NAME, read_manifest
from rlhf_jax.registry.seal import fingerprint

LONGEST = 12.0  # seconds until a run is ended
LIMIT = 600  # seconds for a run that is left alone
_TIMES = {"seconds", "cpu_seconds"}


def run_bits(workdir: pathlib.Path) -> dict[str, str]:
    """name -> hash of every result of a run; of parameters, of their numbers.

    Left out: what tells of times and places (provenance, done, manifests), which have
    checksums of their own, and checkpoints, which are no results.
    """
    found = {}
    for path in sorted(workdir.rglob("*")):
        name = path.relative_to(workdir).as_posix()
        parts = pathlib.PurePath(name).parts
        aside = "." in parts[0] or "checkpoints" in parts
        if not path.is_file() or aside or "/" not in name:
            continue
        if path.name == NAME:  # a step may have another number: it was saved again
            params = path.parent.parent.relative_to(workdir).as_posix()
            found[params] = _numbers(path.parent)
        elif (path.parent / NAME).is_file() or "params" in parts:
            continue
        elif path.name == "metrics.jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            rows = [{k: row[k] for k in row if k not in _TIMES} for row in rows]
            found[name] = _hash(json.dumps(rows).encode())
        elif path.name not in ("provenance.json", "done.json", "manifest.json"):
            found[name] = _hash(path.read_bytes())
    return found


def _numbers(folder: pathlib.Path) -> str:
    from rlhf_jax.checkpoints import CheckpointStore

    store = CheckpointStore(folder.parent)
    found = fingerprint(store.restore_params(step=int(folder.name)))
    store.close()
    return found + json.dumps(read_manifest(folder).leaves, sort_keys=True)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tree(folder: pathlib.Path) -> dict[str, str]:
    """name -> kind, mode and content of everything below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        what = os.readlink(path) if path.is_symlink() else ""
        if path.is_file() and not path.is_symlink():
            what = _hash(path.read_bytes())
        name = path.relative_to(folder).as_posix()
        found[name] = f"{about.st_mode:o} {about.st_mtime_ns} {what}"
    return found


def canary(folder: pathlib.Path) -> pathlib.Path:
    """A folder of files that nobody may touch."""
    for name in ("results.json", "model/model.json", "deep/er/metrics.jsonl"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}, mine\n")
    (folder / "link").symlink_to("results.json")
    return folder


def start(workdir: pathlib.Path, *words: str) -> subprocess.Popen:
    """`rlhf-jax run` in a session of its own."""
    command = [sys.executable, "-m", "rlhf_jax.cli", "run", small_run.__file__]
    root = pathlib.Path(small_run.__file__).parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [*command, "--workdir", str(workdir), *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def _signal(*numbers: int) -> Callable[[subprocess.Popen], None]:
    def send(process: subprocess.Popen) -> None:
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.2)

    return send


def _whole_group(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)


# way -> (further words of the command, what ends it, processes)
WAYS = {
    "kill": ((), _signal(signal.SIGKILL), 1),
    "term": ((), _signal(signal.SIGTERM), 1),
    "interrupt twice": ((), _signal(signal.SIGINT, signal.SIGINT), 1),
    "hang up": ((), _signal(signal.SIGHUP), 1),
    "stop, go on": ((), _signal(signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL), 1),
    "two jobs": (("--jobs", "2"), _signal(signal.SIGKILL), 1),
    "two jobs, all": (("--jobs", "2"), _whole_group, 1),
    "two at once": ((), _signal(signal.SIGKILL), 2),
}


def attack(
    whole: pathlib.Path, folder: pathlib.Path, outcomes: Outcomes, count: int, seed: int
) -> None:
    """Ends runs `count` times and lets the last one come to its end."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    beside, wanted, number = canary(folder / "canary"), run_bits(whole), 0
    before, ways = tree(beside), list(WAYS)
    workdir = folder / "run0"
    for attempt in range(count):
        way = ways[attempt % len(ways)]
        ended = _end(workdir, way, float(rng.uniform(0.3, LONGEST)))
        for text in ended:
            outcomes.add(way, text, f"seed {seed}, attempt {attempt}")
        if "came to its end" in ended:
            _compare(workdir, wanted, outcomes, way)
            number += 1
            workdir = folder / f"run{number}"
    last = start(workdir)
    _, error = last.communicate(timeout=LIMIT)
    outcomes.add(
        "left alone", "came to its end" if not last.returncode else "TRACEBACK"
    )
    _compare(workdir, wanted, outcomes, "left alone")
    untouched = tree(beside) == before
    names = {path.name for path in folder.iterdir()}
    extra = names - {"canary"} - {f"run{n}" for n in range(number + 1)}
    outcomes.add("beside the run", "untouched" if untouched else "OUTSIDE")
    if extra:
        outcomes.add("beside the run", "OUTSIDE", f"{sorted(extra)}")


def _end(workdir: pathlib.Path, way: str, seconds: float) -> list[str]:
    """How a run ended that was ended after some seconds, of each process."""
    words, end, processes = WAYS[way]
    running = [start(workdir, *words) for _ in range(processes)]
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(p.poll() is None for p in running):
        time.sleep(0.02)
    found = []
    for process in running:
        if process.poll() is None:
            end(process)
    for process in running:
        try:
            _, error = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            found.append("HANG")
            continue
        found.append(_told(process.returncode, error.decode(errors="replace")))
    _wait_for_children(running)
    return found


def _wait_for_children(running: list[subprocess.Popen]) -> None:
    """Children of a run that was killed end by themselves, or are ended here."""
    for process in running:
        for _ in range(200):
            try:
                os.killpg(process.pid, 0)
            except OSError:
                break
            time.sleep(0.05)
        else:
            os.killpg(process.pid, signal.SIGKILL)


def _told(code: int, error: str) -> str:
    if "Traceback (most recent call last)" in error:
        return "TRACEBACK"
    if code == 0:
        return "came to its end"
    return "refused" if code == 2 else "ended"


def _compare(
    workdir: pathlib.Path, wanted: dict[str, str], outcomes: Outcomes, way: str
) -> None:
    found = run_bits(workdir)
    wrong = sorted(
        name for name in {*found, *wanted} if found.get(name) != wanted.get(name)
    )
    outcomes.add("end of a run", "OTHER BITS" if wrong else "same bits", f"{wrong[:5]}")
    partials = [path for path in workdir.rglob(".*.partial")]
    if partials:
        outcomes.add("end of a run", "OUTSIDE", f"left behind: {partials[:3]}")
    shutil.rmtree(workdir)

"""Work in a process with a limit of memory, watched: what hangs is killed and named.

The worker gets (function, seed, numbers) and tells one JSON line per number before
and after it.
"""

import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

SECONDS = 10  # of the processor, for one piece of work
SLOW = 12  # times as long by the clock: it waits for something that never comes
MEMORY = 3 << 30  # bytes more than the process has before it begins


def results(
    function: str, seed: int, count: int, folder: str, *, patience: int = SECONDS
) -> Iterator[tuple[int, str, str]]:
    """(number, outcome, about) of each piece of work.

    Args:
      function: "module:name" of `make(folder) -> work(number, seed) -> (outcome,
        about)`, importable by the worker.
      seed: of the work.
      count: pieces.
      folder: for the worker's files.
      patience: seconds for one piece; the first one may compile and takes longer.
    """
    done = 0
    while done < count:
        words = [sys.executable, __file__, function, str(seed), str(done), str(count)]
        worker = subprocess.Popen(
            [*words, folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        limit, about, since = 300, "", (time.monotonic(), 0.0)
        buffer = b""
        while True:
            ready, _, _ = select.select([worker.stdout], [], [], 1)
            now = time.monotonic(), _processor(worker.pid)
            if not ready and now[0] - since[0] < limit * SLOW:
                if now[1] - since[1] < limit:
                    continue  # a busy machine is no hang
            if not ready:
                os.kill(worker.pid, signal.SIGKILL)
                yield done, "HANG", about
                done += 1
                break
            piece = os.read(worker.stdout.fileno(), 1 << 16)
            if not piece:
                if done < count:
                    yield done, "TRACEBACK", f"the process ended: {about}"
                    done += 1
                break
            buffer += piece
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                told = json.loads(line)
                since = now
                if "begins" in told:
                    limit, about = patience, told["begins"]
                else:
                    yield done, told["outcome"], told["about"]
                    done += 1
        worker.wait()


def _processor(process: int) -> float:
    """Seconds of the processor that a process has used."""
    try:
        with open(f"/proc/{process}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _work(function: str, seed: int, start: int, count: int, folder: str) -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, _, name = function.partition(":")
    work = getattr(importlib.import_module(module), name)(folder)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, resource.RLIM_INFINITY))
    for number in range(start, count):
        about, act = work(number, seed)
        print(json.dumps({"begins": about}), file=out, flush=True)
        outcome, more = act()
        told = {"outcome": outcome, "about": f"{about}: {more}"}
        print(json.dumps(told), file=out, flush=True)


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:0] = [here, os.path.dirname(os.path.dirname(here))]
    _work(sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5])

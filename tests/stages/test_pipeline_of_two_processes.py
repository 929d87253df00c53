"""Two processes, one run: decisions are taken once, and one directory is needed."""

import os
import pathlib
import socket
import subprocess
import sys

WORKER = pathlib.Path(__file__).with_name("pipeline_worker_of_two.py")


def test_two_processes_do_and_say_everything_once(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    processes = [
        subprocess.Popen(
            [sys.executable, WORKER, str(rank), str(port), str(tmp_path)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    runs = [
        [line for line in output.splitlines() if line.startswith("ran ")]
        for output in outputs
    ]
    # one and two; then two anew; not when it is taken back; and when it is damaged
    assert runs[0] == runs[1] == ["ran one x", "ran two a", "ran two b", "ran two a"]
    first, second = outputs
    for said in ("one: done before", "the old run is two.", "is taken back", "damaged"):
        assert said in first and said not in second
    for output in outputs:
        one_directory, one_config = [
            line for line in output.splitlines() if line.startswith("refused: ")
        ]
        assert "processes 1 do not see there what process 0 writes" in one_directory
        assert "two: config and data: processes 1 have others" in one_config
    assert sorted(path.name for path in (tmp_path / "same").glob("two*")) == [
        "two",
        *sorted(path.name for path in (tmp_path / "same").glob("two.*")),
    ]
    assert len(list((tmp_path / "same").glob("two.*"))) == 2  # b, and the damaged one

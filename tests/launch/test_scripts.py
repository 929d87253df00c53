"""The launch scripts, run against programs of the same names that only write down."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])


@pytest.fixture
def stub(tmp_path):
    """`stub(name, body)` puts a program on PATH; all tell their words to calls.txt."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(name, body=""):
        file = folder / name
        calls = tmp_path / "calls.txt"
        file.write_text(f'#!/bin/bash\necho "{name} $*" >>{calls}\n{body}\n')
        file.chmod(0o755)

    return make


@pytest.fixture
def launched(tmp_path):
    """`launched(script, *words, **env)` -> (exit code, what was called, stderr)."""

    def run(script, *words, **env):
        calls = tmp_path / "calls.txt"
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        done = subprocess.run(
            [LAUNCH / script, *words],
            env={"PATH": path, "PAUSE": "0", **env},
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
        )
        told = calls.read_text().splitlines() if calls.exists() else []
        return done.returncode, told, done.stderr

    return run


def codes(*values, tmp_path):
    """A body that ends with one code after the other, then with the last again."""
    counter = tmp_path / "count"
    cases = " ".join(map(str, values))
    return (
        f"n=$(cat {counter} 2>/dev/null || echo 0); echo $((n + 1)) >{counter}\n"
        f"all=({cases}); last=$(({len(values)} - 1))\n"
        "exit ${all[$((n < last ? n : last))]}"
    )


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    found = subprocess.run(["shellcheck", script], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("code", [0, 2, 3, 4])
def test_what_is_done_or_waits_for_a_person_is_not_started_again(
    stub, launched, tmp_path, code
):
    stub("train", f"exit {code}")
    file = tmp_path / "exit"
    ended, calls, _ = launched("until_done.sh", "train", "x", EXIT_FILE=str(file))
    assert ended == code and calls == ["train x"]
    assert file.read_text() == f"{code}\n"


def test_what_was_cut_is_started_again(stub, launched, tmp_path):
    stub("train", codes(143, 134, 1, 0, tmp_path=tmp_path))
    ended, calls, told = launched("until_done.sh", "train")
    assert ended == 0 and len(calls) == 4
    assert "ended with 134; restart 2" in told


def test_restarts_end(stub, launched):
    stub("train", "exit 1")
    ended, calls, told = launched("until_done.sh", "train", RESTARTS="2")
    assert ended == 1 and len(calls) == 3 and "2 restarts are enough" in told


def test_a_signal_reaches_the_command_and_ends_both(stub, tmp_path):
    stub("train", f"trap 'touch {tmp_path}/saved; exit 143' TERM; touch {tmp_path}/up\n"
         "while :; do read -rt 1 <> <(:); done")  # fmt: skip
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    run = subprocess.Popen([LAUNCH / "until_done.sh", "train"], env={"PATH": path})
    while not (tmp_path / "up").exists():
        assert run.poll() is None
    run.terminate()
    assert run.wait(timeout=30) == 143
    assert (tmp_path / "saved").exists()


def test_one_node_refuses_another_number_of_gpus(stub, launched):
    stub("nvidia-smi", "printf 'GPU 0\\nGPU 1\\n'")
    stub("rlhf-jax")
    ended, calls, told = launched("one_node.sh", "x.py")
    assert ended == 2 and "2 GPUs are here, 8 were asked for" in told
    ended, calls, _ = launched("one_node.sh", "x.py", "--workdir", "w", GPUS="2")
    assert ended == 0
    assert calls[-1] == "rlhf-jax run x.py --workdir w --config.settings.mesh=1,-1,1"


def test_a_slurm_job_that_was_cut_puts_itself_back(stub, launched):
    stub("srun", "exit 143")
    stub("scontrol")
    ended, calls, _ = launched("slurm.sbatch", "x.py", SLURM_JOB_ID="7")
    assert ended == 0
    assert calls == [
        "srun --kill-on-bad-exit=1 rlhf-jax run x.py --config.settings.distributed=on",
        "scontrol requeue 7",
    ]
    text = (LAUNCH / "slurm.sbatch").read_text()
    assert re.search(r"^#SBATCH --signal=TERM@\d+$", text, re.MULTILINE)
    assert "\n#SBATCH --requeue\n" in text


@pytest.mark.parametrize("code", [0, 2, 3, 4])
def test_a_slurm_job_that_is_done_or_wrong_ends(stub, launched, code):
    stub("srun", f"exit {code}")
    stub("scontrol")
    ended, calls, _ = launched("slurm.sbatch", "x.py", SLURM_JOB_ID="7")
    assert ended == code and len(calls) == 1


def test_a_slurm_job_does_not_go_round_for_ever(stub, launched):
    stub("srun", "exit 1")
    stub("scontrol")
    env = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "100"}
    ended, calls, _ = launched("slurm.sbatch", "x.py", **env)
    assert ended == 1 and not [c for c in calls if c.startswith("scontrol")]


TPU = {"ZONE": "z", "TYPE": "v5litepod-16", "RUNTIME": "r", "SHARED": "h:/p"}


def gcloud(tmp_path, states, ssh):
    """Answers `describe` with one state after the other, and does `ssh` for ssh."""
    return (
        'case "$*" in\n'
        f"*describe*) n=$(cat {tmp_path}/n 2>/dev/null || echo 0)\n"
        f"  all=({' '.join(states)}); echo $((n + 1)) >{tmp_path}/n\n"
        f"  last=$(({len(states)} - 1)); state=${{all[$((n < last ? n : last))]}}\n"
        "  [[ $state == NONE ]] && exit 1; echo $state ;;\n"
        f"*ssh*until_done*) {ssh} ;;\n"
        '*ssh*"cat /shared"*) echo "${LAST:-}" ;;\n'
        "esac"
    )


def test_a_slice_is_asked_for_used_and_given_back(stub, launched, tmp_path):
    stub("gcloud", gcloud(tmp_path, ["NONE", "WAITING", "ACTIVE"], "exit 0"))
    ended, calls, _ = launched("tpu_vm.sh", "run1", "x.py", SPOT="1", **TPU)
    assert ended == 0
    verbs = [re.search(r"(create|describe|scp|ssh|delete)", c)[0] for c in calls
             if c.startswith("gcloud")]  # fmt: skip
    assert verbs == ["describe", "create", "describe", "describe", "scp"] + [
        "ssh"
    ] * 3 + ["delete"]
    (created,) = [c for c in calls if " create " in c]
    assert "--accelerator-type v5litepod-16" in created and "--spot" in created
    whole = "\n".join(calls)
    assert "--worker=all" in whole and "launch/until_done.sh rlhf-jax run x.py" in whole
    assert "--workdir /shared/runs/run1" in whole


def test_a_slice_that_was_taken_away_is_asked_for_again(stub, launched, tmp_path):
    ssh = f"[[ -e {tmp_path}/lost ]] || {{ touch {tmp_path}/lost; exit 255; }}"
    states = ["ACTIVE", "SUSPENDED", "NONE", "ACTIVE"]
    stub("gcloud", gcloud(tmp_path, states, ssh))
    ended, calls, told = launched("tpu_vm.sh", "run1", "x.py", **TPU)
    assert ended == 0 and "workers were lost" in told
    assert sum(" delete " in c for c in calls) == 2  # the lost one, and at the end
    assert sum(" create " in c for c in calls) == 1


def test_a_run_that_waits_for_a_person_ends_the_loop(stub, launched, tmp_path):
    stub("gcloud", gcloud(tmp_path, ["ACTIVE"], "exit 1"))
    ended, calls, _ = launched("tpu_vm.sh", "run1", "x.py", LAST="3", KEEP="1", **TPU)
    assert ended == 3 and not [c for c in calls if " delete " in c]


def test_what_is_missing_is_named(launched):
    ended, _, told = launched("tpu_vm.sh", "run1", "x.py", ZONE="z")
    assert ended == 2 and "set TYPE" in told


def test_several_slices_are_one_request_with_nodes(stub, launched, tmp_path):
    stub("gcloud", gcloud(tmp_path, ["NONE", "ACTIVE"], "exit 0"))
    ended, calls, _ = launched("tpu_vm.sh", "run1", "x.py", SLICES="2", **TPU)
    assert ended == 0
    (created,) = [c for c in calls if " create " in c]
    assert "--node-count 2 --node-prefix run1" in created
    assert {c.split()[5] for c in calls if " ssh " in c} == {"run1-0", "run1-1"}


def test_the_manifest_restarts_all_but_what_waits_for_a_person():
    yaml = pytest.importorskip("yaml")
    values = {"SLICES": "2", "HOSTS": "4", "CHIPS": "4"}
    text = (LAUNCH / "gke.yaml").read_text()
    text = re.sub(r"\$\{(\w+)\}", lambda found: values.get(found[1], "x"), text)
    spec = yaml.safe_load(text)["spec"]
    (slices,) = spec["replicatedJobs"]
    job = slices["template"]["spec"]
    assert slices["replicas"] == 2 and job["parallelism"] == job["completions"] == 4
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [2, 3, 4]
    assert spec["failurePolicy"]["maxRestarts"] > 10

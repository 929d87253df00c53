"""Faults happen where and when they were asked for, and nowhere else."""

import ast
import errno
import pathlib
import signal
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax import faults
from rlhf_jax.errors import InputError
from rlhf_jax.faults import POINTS, fault, injected, parse_faults

PACKAGE = pathlib.Path(faults.__file__).parent


def called_points():
    """Every string given to `fault(...)` in the package."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "fault":
                if isinstance(node.args[0], ast.Constant):
                    yield node.args[0].value


def test_declared_points_are_the_points_of_the_code():
    assert set(called_points()) == set(POINTS)


def test_without_a_fault_a_point_returns_its_value_untouched():
    value = {"x": np.ones(3)}
    assert fault("train.step", value) is value


def test_a_fault_happens_at_its_passage_only():
    with injected("train.step:3:ENOSPC") as passed:
        fault("train.step")
        fault("ckpt.before_write")
        fault("train.step")
        with pytest.raises(OSError) as caught:
            fault("train.step")
        fault("train.step")
    assert caught.value.errno == errno.ENOSPC
    assert passed == {"train.step": 4, "ckpt.before_write": 1}


@given(first=st.integers(1, 9), total=st.integers(1, 20))
def test_a_repeating_fault_happens_at_every_passage_from_the_first(first, total):
    raised = 0
    with injected(f"train.step:{first}+:EACCES"):
        for _ in range(total):
            try:
                fault("train.step")
            except PermissionError:
                raised += 1
    assert raised == max(0, total - first + 1)


@pytest.mark.parametrize("action", ["nan", "inf"])
def test_poison_reaches_floating_leaves_only(action):
    value = {
        "a": jnp.ones(2),
        "b": np.arange(3),
        "c": 1.5,
        "d": jnp.ones(1, "bfloat16"),
    }
    with injected(f"train.step:1:{action}"):
        out = fault("train.step", value)
    for name in "acd":
        assert not np.isfinite(np.asarray(out[name], np.float32)).any()
    assert (out["b"] == value["b"]).all()
    assert out["a"].dtype == jnp.float32 and out["d"].dtype == jnp.bfloat16


def test_a_sleep_and_a_raise_are_what_they_say():
    with injected("train.step:1:sleep=0.0,train.step:2:raise"):
        fault("train.step")
        with pytest.raises(RuntimeError, match="injected at train.step"):
            fault("train.step")


def test_an_undeclared_point_is_refused_once_faults_are_on():
    with injected(), pytest.raises(ValueError, match="not declared"):
        fault("nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.step:SIGKILL", "not point:n:ACTION"),
        ("train.stop:1:SIGKILL", "no point 'train.stop'"),
        ("train.step:0:SIGKILL", "'0'"),
        ("train.step:x:SIGKILL", "'x'"),
        ("train.step:1:SIGNOTHING", "no action"),
        ("train.step:1:sleep=long", "no action"),
        ("train.step:1:sleep=", "no action"),
    ],
)
def test_a_mistyped_fault_says_what_is_wrong(text, message):
    with pytest.raises(InputError, match=message):
        parse_faults(text)


def test_the_environment_variable_kills_a_process():
    code = (
        "from rlhf_jax.faults import fault\n"
        "for step in range(9):\n"
        "    fault('train.step'); print(step, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"RLHF_FAULT": "train.step:3:SIGKILL", "PATH": ""},
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["0", "1"]

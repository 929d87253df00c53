"""The flag that makes a GPU repeat itself: set, kept, and missed aloud."""

import importlib.util

import jax
import pytest

from rlhf_jax.parallel import repeat_on_gpu, repeatable, unrepeatable


@pytest.fixture
def with_plugin(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    return monkeypatch


def test_a_command_on_a_gpu_asks_for_programs_that_repeat(with_plugin):
    with_plugin.setenv("XLA_FLAGS", "--xla_dump_to=here")
    assert repeat_on_gpu()
    flags = repeatable.os.environ["XLA_FLAGS"]
    assert flags == "--xla_dump_to=here --xla_gpu_deterministic_ops=true"
    assert not repeat_on_gpu()


def test_what_the_user_says_of_the_flag_stays(with_plugin):
    with_plugin.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=false")
    assert not repeat_on_gpu()
    assert repeatable.os.environ["XLA_FLAGS"].endswith("=false")


def test_without_a_gpu_the_environment_is_left_alone(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    assert not repeat_on_gpu()
    assert "XLA_FLAGS" not in repeatable.os.environ


def test_a_gpu_that_may_not_repeat_is_told_of(with_plugin):
    assert unrepeatable() is None  # a CPU repeats
    with_plugin.setattr(jax, "default_backend", lambda: "gpu")
    assert "not bit for bit" in unrepeatable()
    repeat_on_gpu()
    assert unrepeatable() is None

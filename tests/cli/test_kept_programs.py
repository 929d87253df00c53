"""Where the command keeps compiled programs, and when it keeps none."""

import pathlib
import subprocess
import sys

import pytest

from rlhf_jax.cli.kept_programs import ENABLED, FOLDER, SIZE, keep_programs


@pytest.fixture
def clean(monkeypatch, tmp_path):
    for name in (FOLDER, SIZE, ENABLED):
        monkeypatch.setenv(name, "")  # restored afterwards, whatever is set meanwhile
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return monkeypatch


def test_programs_are_kept_in_the_users_cache_folder(clean, tmp_path):
    folder = keep_programs()
    assert folder.is_dir() and folder.is_relative_to(tmp_path)
    assert keep_programs() is None  # already said


def test_the_environment_decides_where_it_says_something(clean, tmp_path):
    clean.setenv(FOLDER, str(tmp_path / "own"))
    assert keep_programs() is None
    assert not (tmp_path / "rlhf_jax").exists()


def test_without_a_cache_children_keep_nothing_either(clean, tmp_path):
    assert keep_programs(wanted=False) is None
    assert keep_programs() is None  # what a child would ask
    assert not (tmp_path / "rlhf_jax").exists()


def test_a_folder_that_cannot_be_made_is_no_error(clean, tmp_path):
    (tmp_path / "file").write_text("")
    clean.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert keep_programs() is None


@pytest.mark.parametrize("words, kept", [([], True), (["--no-cache"], False)])
def test_a_command_keeps_what_it_compiles(clean, tmp_path, words, kept):
    command = [*words, str(tmp_path / "none"), str(tmp_path / "out")]
    code = f"""
from rlhf_jax.cli import main
assert main(["export", *{command}]) == 2
import jax
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.jit(lambda x: x + 1)(1.0).block_until_ready()
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    files = list(pathlib.Path(tmp_path).glob("rlhf_jax/programs-*/*"))
    assert bool(files) == kept

"""Strict dtype promotion for every test of this folder."""

import pathlib

import jax
import pytest

collect_ignore = ["make_goldens.py", "tiny_transformers.py"]  # need torch
GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.fixture(autouse=True)
def strict_promotion():
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="session")
def golden() -> pathlib.Path:
    """Tiny checkpoints and their numbers, written by `make_goldens.py`."""
    return GOLDEN

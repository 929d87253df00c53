"""The tiny experiment's run, for every test of this folder."""

from tiny_run import tiny  # noqa: F401

"""The tiny experiment's run, for every test of this folder."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "stages"))

from tiny_run import tiny  # noqa: E402, F401

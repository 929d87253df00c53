"""The modules of this folder import each other by name, here as in `make attack`."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent))

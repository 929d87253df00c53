"""The texts that try to be more than text, and a Chromium, for the pages too."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "labelling"))

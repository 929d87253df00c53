"""What to tell about an error of the disk: one line, with the space left."""

import os
import pathlib
import shutil

_KNOWN = (
    "No space left on device",
    "File too large",
    "Permission denied",
    "Read-only file system",
    "No such file or directory",
)


def reason(error: BaseException) -> str:
    """One line about an error, without what Orbax and its storage put around it."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    for known in _KNOWN:
        if known in text:
            name = getattr(error, "filename", None)
            return f"{known}: {os.fspath(name)}" if name else known
    return text.splitlines()[0][:300]


def space(directory: pathlib.Path, size: int) -> str:
    """What a state of `size` bytes takes and what is free; empty where unknown."""
    try:
        free = shutil.disk_usage(directory).free
    except OSError:
        return ""
    return f"; the state takes {size / 1e6:.1f} MB, {free / 1e6:.1f} MB are free"

"""Files that somebody else may have made: regular, of bounded size, JSON objects."""

import json
import os
import pathlib
import stat
from collections.abc import Iterable

from rlhf_jax.errors import InputError

__all__ = ["read_bytes", "read_json", "require_regular"]

# bytes; a configuration has some thousands, the largest tokenizers 40 million
LARGEST = 1 << 29


def read_bytes(path: str | os.PathLike, largest: int = LARGEST) -> bytes:
    """The bytes of a regular file; pipes and devices are refused, not waited for.

    Args:
      path: links to files are followed: the hub's cache is made of them.
      largest: bytes; a larger file is refused before it is read.

    Raises:
      FileNotFoundError: it is not there.
      InputError: no regular file, too large, or the system does not give it.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            _require(path, os.fstat(handle), largest)
            return file.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def read_json(path: str | os.PathLike, largest: int = LARGEST) -> dict:
    """A JSON object.

    Raises:
      InputError: absent, no regular file, no UTF-8, no JSON, or no object.
    """
    try:
        value = json.loads(read_bytes(path, largest).decode("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except RecursionError:
        raise InputError(f"{path}: expected JSON: nested too deeply") from None
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: expected JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object")
    return value


def require_regular(folder: pathlib.Path, patterns: Iterable[str]) -> None:
    """Refuses a folder in which a file of these names is a pipe, a device or too large.

    Raises:
      InputError: names the first.
    """
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            try:
                _require(path, path.stat(), LARGEST)
            except OSError as error:
                raise InputError(f"{path}: {error.strerror}") from error


def _require(path: str | os.PathLike, about: os.stat_result, largest: int) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise InputError(f"{path}: expected a regular file")
    if about.st_size > largest:
        raise InputError(
            f"{path}: has {about.st_size:,} bytes, expected at most {largest:,}"
        )

"""A file is replaced whole: as it was, or as it shall be, whatever ends the process.

The new file is written beside the old one, synced and renamed over it. Of several
processes the first one writes and all wait, so every process must come here.
"""

import contextlib
import gzip
import io
import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from rlhf_jax.errors import InputError, RunError
from rlhf_jax.storage.processes import any_process, is_first_process, process_count

__all__ = [
    "clear_partials",
    "replacing",
    "replacing_here",
    "write_json",
    "write_lines",
    "write_text",
]


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[TextIO]:
    """A text file (UTF-8; `.gz` compressed) that takes its place when the block ends.

    Every process runs the block; what the others write goes nowhere.

    Raises:
      InputError: the disk is full, the folder is missing or may not be written.
      RunError: on the other processes, when the first one failed.
    """
    if process_count() == 1:
        with replacing_here(path) as file:
            yield file
        return
    first, failed = is_first_process(), True
    try:
        opened = replacing_here(path) if first else open(os.devnull, "w")
        with opened as file:
            yield file
        failed = False
    finally:
        if any_process(failed) and not failed:
            raise RunError(f"{path}: another process could not write it")


@contextlib.contextmanager
def replacing_here(path: str | os.PathLike) -> Iterator[TextIO]:
    """`replacing` by this process alone, whichever it is; no other one waits."""
    path = pathlib.Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.unlink(missing_ok=True)
        # not through a link, and with the mode that the umask says
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(partial, flags, 0o666), "wb") as raw:
            with _text(raw, path) as file:
                yield file
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise InputError(
            f"{error.filename or path}: {error.strerror or error}"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _text(raw: Any, path: pathlib.Path) -> Iterator[TextIO]:
    """UTF-8 text into an open binary file, which stays open."""
    zipped = path.suffix == ".gz"
    binary = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if zipped else raw
    file = io.TextIOWrapper(binary, encoding="utf-8", newline="")
    yield file
    file.flush()
    file.detach()
    if zipped:
        binary.close()


def _sync_folder(folder: pathlib.Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Replaces a file by a text; raises as `replacing` does."""
    with replacing(path) as file:
        file.write(text)


def write_json(path: str | os.PathLike, value: Any, **options: Any) -> None:
    """Replaces a file by one JSON value, indented by two.

    Args:
      path: of the file.
      value: what it will hold.
      **options: for `json.dump`, such as `sort_keys` or `default`.
    """
    with replacing(path) as file:
        json.dump(value, file, **{"indent": 2, **options})
        file.write("\n")


def write_lines(path: str | os.PathLike, values: Iterable[Any]) -> int:
    """Replaces a file by one JSON value per line; returns how many."""
    count = 0
    with replacing(path) as file:
        for value in values:
            file.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def clear_partials(paths: Iterable[pathlib.Path], *, ended: bool = False) -> None:
    """Removes what killed writers left behind.

    Args:
      paths: files named `.NAME.PROCESS.partial`.
      ended: only those whose process runs no more on this machine; else all.
    """
    for path in list(paths):
        process = path.name.split(".")[-2]
        running = process.isdigit() and pathlib.Path(f"/proc/{process}").exists()
        if not (ended and running):
            with contextlib.suppress(OSError):
                path.unlink()

"""A run directory may come from somebody else: nothing in it leads out of it."""

import os
import pathlib
import re
from collections.abc import Mapping

from rlhf_jax.errors import InputError

__all__ = [
    "beside",
    "looks_local",
    "no_links",
    "require_no_links",
    "require_plain_name",
]

_NAME = re.compile(r"[\w-]{1,100}")
_FOREIGN = {"wandb"}  # links to its own newest run there


def require_no_links(root: str | os.PathLike) -> None:
    """Refuses a directory in which something is no file and no directory.

    A link below it would make a run write to, or read from, what it leads to. The
    directory itself may be reached by a link.

    Raises:
      InputError: names the first link, device or pipe.
    """
    waiting = [os.fspath(root)]
    while waiting:
        for entry in _entries(waiting.pop()):
            if entry.is_dir(follow_symlinks=False):
                waiting += [entry.path] if entry.name not in _FOREIGN else []
            elif not entry.is_file(follow_symlinks=False):
                what = "a link" if entry.is_symlink() else "no regular file"
                raise InputError(
                    f"{entry.path}: {what}: a run reads and writes only files that "
                    "lie in its directory; put what it leads to in its place"
                )


def _entries(folder: str) -> list[os.DirEntry]:
    try:
        return list(os.scandir(folder))
    except FileNotFoundError:  # another stage of the run has removed it just now
        return []


def no_links(path: str, flags: int) -> int:
    """An opener for `open` that refuses a link as the last part of the path."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def require_plain_name(name: str, what: str) -> None:
    """Refuses a name that could not be that of one directory inside another.

    Raises:
      InputError: it holds more than letters, digits, _ and -, or is too long.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{what} {name!r}: expected letters, digits, _ and -, 100 at most: it is "
            "the name of a directory"
        )


def beside(folders: Mapping[str, str], workdir: str | os.PathLike) -> dict[str, str]:
    """Directories of the same run relative to one of its stages, others as they are.

    So they are found again when the run is moved or copied.

    Args:
      folders: name -> directory.
      workdir: of the stage.
    """
    here = pathlib.Path(workdir).absolute()
    return {
        name: f"../{pathlib.Path(path).name}"
        if pathlib.Path(path).absolute().parent == here.parent
        else path
        for name, path in folders.items()
    }


def looks_local(name: str | os.PathLike) -> bool:
    """Whether a name that is not on this disk was meant to be: the hub is not asked.

    A hub name is `name` or `owner/name`; where a directory `owner` lies here, it was
    meant.
    """
    text = os.fspath(name)
    parts = pathlib.PurePath(text).parts
    return (
        text.startswith(("/", ".", "~", "@"))
        or text.endswith("/")
        or "\\" in text
        or not 1 <= len(parts) <= 2
        or (len(parts) == 2 and pathlib.Path(parts[0]).is_dir())
    )

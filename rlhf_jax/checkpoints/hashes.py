"""Content hashes: of files, of directories and of trees of arrays.

Damage is found with XXH3-128 (about 10 GB/s a core), names are given with SHA-256.
"""

import hashlib
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import Any

import numpy as np

from rlhf_jax.checkpoints.leaves import host_array, leaf_spec, named_leaves
from rlhf_jax.errors import InputError

_BLOCK = 1 << 20  # bytes read at a time


def checksum(path: str | os.PathLike, *, sync: bool = False) -> str:
    """XXH3-128 of a file's bytes, in hexadecimal.

    Args:
      path: a regular file; symbolic links are not followed.
      sync: also force the bytes to the disk.
    """
    import xxhash

    digest = xxhash.xxh3_128()
    with _opened(path) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
        if sync:
            os.fsync(file.fileno())
    return digest.hexdigest()


def state_hash(tree: Any) -> str:
    """SHA-256 over every bit of every leaf of a tree, and over its paths.

    The same for every mesh, for jax and numpy arrays, for a state and its restored
    copy. With several processes all of them must call it.

    Args:
      tree: arrays, typed keys and numbers.

    Returns:
      64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, leaf in sorted(named_leaves(tree).items()):
        digest.update(f"{name}\0{leaf_spec(leaf)}\0".encode())
        digest.update(np.ascontiguousarray(host_array(leaf)).tobytes())
    return digest.hexdigest()


def tree_hash(path: str | os.PathLike) -> str:
    """SHA-256 over the names and contents of all files under a directory.

    Times, owners and hidden files (a leading dot) do not count. A link to a file
    counts as that file: the hub's cache is made of such links.

    Args:
      path: a directory, or one file.

    Returns:
      64 hexadecimal digits.

    Raises:
      InputError: nothing there, or a linked directory or a device among the files.
    """
    root = pathlib.Path(path)
    if root.is_file():
        return _content_hash(root)
    if not root.is_dir():
        raise InputError(f"{root}: no file or directory to hash")
    digest = hashlib.sha256()
    for name in sorted(regular_files(root, links=True)):
        digest.update(f"{name}\0{_content_hash(root / name)}\0".encode())
    return digest.hexdigest()


def regular_files(root: pathlib.Path, *, links: bool = False) -> Iterator[str]:
    """Relative POSIX paths of the files under `root`, hidden ones left out.

    Args:
      root: a directory.
      links: take links to files for files; else refuse them.

    Raises:
      InputError: something that is neither a file nor a directory, so that no link
        leads out of `root`.
    """
    for entry in list(os.scandir(root)):
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            inside = regular_files(pathlib.Path(entry.path), links=links)
            yield from (f"{entry.name}/{name}" for name in inside)
        elif entry.is_file(follow_symlinks=links):
            yield entry.name
        else:
            raise InputError(f"{entry.path}: a link or device, not a file")


def _content_hash(path: pathlib.Path) -> str:
    with _opened(path, follow=True) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _opened(path: str | os.PathLike, *, follow: bool = False) -> Any:
    flags = os.O_RDONLY | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path}: not a regular file")
    return open(descriptor, "rb")

"""What a file holds, as a hash: the same under every name and spelling."""

import os
import pathlib

__all__ = ["content_of"]

# (path, size, time of change) -> hash: a file is read once per process
_READ: dict[tuple, str] = {}
_BLOCK = 1 << 20  # bytes


def content_of(path: str | os.PathLike) -> str:
    """XXH3-128 of a file's bytes, or of the names and bytes below a directory.

    Args:
      path: a file or a directory, which links may lead to.

    Raises:
      OSError: it is not there, or cannot be read.
    """
    import xxhash

    root = pathlib.Path(path).resolve(strict=True)
    if root.is_file():
        return _file_hash(root)
    digest = xxhash.xxh3_128()
    for file in sorted(root.rglob("*")):
        if file.is_file():
            name = file.relative_to(root).as_posix()
            digest.update(f"{name}\0{_file_hash(file.resolve())}\0".encode())
    return digest.hexdigest()


def _file_hash(path: pathlib.Path) -> str:
    import xxhash

    about = path.stat()
    key = (path, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    if key not in _READ:
        digest = xxhash.xxh3_128()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        _READ[key] = digest.hexdigest()
    return _READ[key]

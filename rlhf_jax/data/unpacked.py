"""Files as bytes, unpacked where they are gzip or Zstandard; damage told by line."""

import contextlib
import gzip
import io
import pathlib
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from rlhf_jax.errors import InputError

__all__ = ["PACKED", "opened", "readable", "unpacked_name"]

GZIP, ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
PACKED = (".gz", ".zst")
STEP = 1 << 10  # packed bytes unpacked at once: they make 32 MB at most


def opened(path: str | pathlib.Path) -> io.BufferedIOBase:
    """A file for reading bytes, unpacked where its content says that it is packed.

    Raises:
      InputError: no such file, or not readable; Zstandard without its library.
    """
    try:
        file = open(path, "rb")
        head = file.peek(4)[:4]
        if head == ZSTANDARD:
            return io.BufferedReader(_Unpacked(file, zstandard(path)))
        if head[:2] != GZIP:
            return file
        file.close()
        return gzip.open(path, "rb")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def zstandard(path: str | pathlib.Path):
    """The library that reads `.zst`.

    Raises:
      InputError: it is not installed.
    """
    try:
        import zstandard
    except ImportError as error:
        raise InputError(
            f"{path}: expected the `zstandard` library: pip install 'rlhf_jax[data]'"
        ) from error
    return zstandard


class _Unpacked(io.RawIOBase):
    """The frames of a Zstandard file, one after the other.

    The library's own reader takes a file that is cut off for one that ends.
    """

    def __init__(self, file: BinaryIO, library):
        self._file, self._library = file, library
        self._frame, self._packed, self._text = None, b"", b""

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, target) -> int:
        while not self._text:
            self._packed = self._packed or self._file.read(STEP)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("the file ends within a frame")
                return 0
            self._unpack()
        count = min(len(target), len(self._text))
        target[:count] = self._text[:count]
        self._text = self._text[count:]
        return count

    def _unpack(self) -> None:
        if self._frame is None:
            self._frame = self._library.ZstdDecompressor().decompressobj()
        try:
            self._text = memoryview(self._frame.decompress(self._packed))
        except self._library.ZstdError as error:
            raise OSError(str(error)) from error
        self._packed = self._frame.unused_data
        if self._frame.eof:
            self._frame = None


@contextlib.contextmanager
def readable(name: str, line: int) -> Iterator[None]:
    """Turns what a damaged file does to a reader into an `InputError`."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name}:{line}: damaged or unreadable: {error}") from error


def unpacked_name(path: str | pathlib.Path) -> str:
    """The name of a file without the ending of its packing.

    >>> unpacked_name("data/rows.jsonl.zst")
    'rows.jsonl'
    """
    name = pathlib.PurePath(str(path)).name
    packed = pathlib.PurePath(name).suffix.lower() in PACKED
    return pathlib.PurePath(name).stem if packed else name

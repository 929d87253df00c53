"""Text from outside as text: nothing in it commands a terminal.

A response, a file's name, a server's error may hold escape sequences that paint the
screen, retitle the window or answer for the person at it. `literal` makes them
visible; `literal_streams` puts it before everything that a command prints to a
terminal.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["literal", "literal_streams"]

_SHOWN = "\N{REPLACEMENT CHARACTER}"
_CONTROLS = {*range(32), *range(127, 160)} - {*map(ord, "\n\t")}
# they turn the text around them: what is read is not what is there
_TURNING = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_HALVES = range(0xD800, 0xE000)  # of surrogate pairs, which no stream can write
_TABLE = dict.fromkeys((*_CONTROLS, *_TURNING, *_HALVES), _SHOWN)


def literal(text: Any) -> str:
    """The text with control characters as �; line ends and tabs stay.

    >>> literal("a\\x1b[31m\\r\\tb\\n")
    'a�[31m�\\tb\\n'
    """
    return str(text).translate(_TABLE)


class LiteralStream:
    """A stream of a terminal that prints everything literally.

    Attributes:
      rich_proxied_file: the stream itself; what rich draws goes there as it is, and
        is made of literal text.
    """

    def __init__(self, stream: Any):
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        """Prints a text; as many characters as it had."""
        self.rich_proxied_file.write(literal(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Prints several."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextlib.contextmanager
def literal_streams() -> Iterator[None]:
    """For the length of a `with`, terminals get text and no commands.

    Files and pipes get what is printed as it is.
    """
    before = sys.stdout, sys.stderr
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and stream.isatty():
            setattr(sys, name, LiteralStream(stream))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before

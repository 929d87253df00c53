"""How a command ends before its time: by a signal or by the system; no command itself.

Until training begins and between stages nothing is to be saved: whatever is written
takes its place whole or not at all. So a signal ends the process at once, with a line,
and no library can swallow it. The loop of a stage sets handlers of its own, which save.
"""

import contextlib
import errno
import os
import signal
import threading
from collections.abc import Iterator

_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}
_NEEDED = {
    errno.ENOSPC: "make room on that disk and run again",
    errno.EDQUOT: "your share of that disk is used up; make room and run again",
    errno.EACCES: "it needs permission to read and write there",
    errno.EPERM: "it needs permission to read and write there",
    errno.EROFS: "that file system can only be read; name another place",
    errno.ENOENT: "it must exist",
    errno.ENOTDIR: "a part of that path is a file, where a directory is needed",
    errno.EISDIR: "it is a directory, where a file is needed",
    errno.ENAMETOOLONG: "take a shorter name",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.ELOOP: "it is a link, and links are not followed there",
}


@contextlib.contextmanager
def at_once(command: str) -> Iterator[None]:
    """Signals end the process with one line; on leaving the old handlers are back.

    Args:
      command: what the line begins with.
    """

    def end(number: int, frame: object) -> None:
        name = signal.Signals(number).name
        text = f"{command}: {name}: ended; run again to continue\n"
        with contextlib.suppress(OSError):
            os.write(2, text.encode())
        os._exit(_CODES[signal.Signals(number)])

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in _CODES:
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def told(error: OSError) -> str:
    """An error of the system as one line: where, what, and what is needed."""
    what = error.strerror or " ".join(str(error).split()) or type(error).__name__
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    needed = _NEEDED.get(error.errno, "")
    return f"{where}{what}{'; ' if needed else ''}{needed}"

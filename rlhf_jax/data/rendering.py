"""Chat templates, rendered as transformers renders them, in a process with limits."""

import atexit
import contextlib
import datetime
import json
import os
import pathlib
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rlhf_jax.errors import InputError

__all__ = ["Rendering", "Take"]

PATIENCE = 120  # seconds of the clock, should the limit on processor time not act
REASONING = ("reasoning_content", "thinking", "reasoning")  # names of one field
Take = tuple[int, bool]  # how many messages, and whether the assistant's turn is opened


@dataclass(frozen=True)
class Rendering:
    """A template and what it reads besides the messages.

    Attributes:
      template: Jinja source.
      variables: the special tokens by name ("bos_token"), and further variables.
      tools: JSON schemas of functions, or None.
      documents: dicts with "title" and "text", or None.
      now: for `strftime_now`; the moment of the call when None.
    """

    template: str
    variables: dict[str, Any] = field(default_factory=dict)
    tools: Sequence[dict] | None = None
    documents: Sequence[dict] | None = None
    now: datetime.datetime | None = None

    def texts(
        self,
        messages: Sequence[dict[str, Any]],
        takes: Sequence[Take],
        marks: tuple[str, str] = ("", ""),
    ) -> list[str]:
        """The conversation up to some of its messages, once per take.

        Args:
          messages: dicts with "role" and whatever the template reads.
          takes: (how many of the messages, open the assistant's turn behind them).
          marks: put around the text of `{% generation %}` blocks.

        Raises:
          InputError: the template refuses the messages, is no template, or needs more
            time, memory or room than it is given; one line.
        """
        found = self.attempts(messages, takes, marks)
        for text, problem in found:
            if text is None:
                raise refusal(problem)
        return [text for text, _ in found]

    def attempts(self, messages, takes, marks=("", "")) -> list[tuple]:
        """As `texts`, but (text, None) or (None, why not) of each take."""
        now = self.now or datetime.datetime.now()  # noqa: DTZ005 (as templates expect)
        job = {
            "template": self.template,
            "variables": self.variables,
            "messages": [_as_templates_read(message) for message in messages],
            "tools": self.tools,
            "documents": self.documents,
            "takes": list(takes),
            "marks": marks,
            "now": now.isoformat(),
        }
        try:
            line = json.dumps(job)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"conversation: expected plain JSON: {error}") from None
        return [tuple(pair) for pair in _WORKER.ask(line)]


def _as_templates_read(message: dict[str, Any]) -> dict[str, Any]:
    """Without the keys that hold None; reasoning under each of its names."""
    message = {key: value for key, value in message.items() if value is not None}
    said = [message[key] for key in REASONING if key in message]
    if said:
        message = {"thinking": said[0], **message, "reasoning_content": said[0]}
    return message


def refusal(problem: str) -> InputError:
    """What a template refused, in one line."""
    return InputError(f"chat template: {' '.join(str(problem).split())[:300]}")


class _Worker:
    """The process that renders; started when first asked, again after it was ended."""

    def __init__(self):
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._owner = 0

    def ask(self, line: str) -> list:
        """The reply to one job.

        Raises:
          InputError: the template used up what it was given.
        """
        with self._lock:
            process = self._running()
            try:
                process.stdin.write(line.encode() + b"\n")
                process.stdin.flush()
                reply = self._reply(process)
            except BrokenPipeError:
                reply = b""
            if not reply.endswith(b"\n"):
                self.close(kill=True)
                raise InputError(
                    "chat template: took more time or memory than it is given "
                    "(5 seconds of the processor, 2 GiB)"
                )
        return json.loads(reply)

    def _running(self) -> subprocess.Popen:
        alive = self._process is not None and self._process.poll() is None
        if not alive or self._owner != os.getpid():  # not another process's pipes
            script = pathlib.Path(__file__).with_name("template_worker.py")
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            self._owner = os.getpid()
        return self._process

    def _reply(self, process: subprocess.Popen) -> bytes:
        """What it writes up to a line's end; less where it ended or was too slow."""
        parts, deadline = [], time.monotonic() + PATIENCE
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while selector.select(max(0.0, deadline - time.monotonic())):
                parts.append(os.read(process.stdout.fileno(), 1 << 20))
                if not parts[-1] or parts[-1].endswith(b"\n"):
                    break
        return b"".join(parts)

    def close(self, kill: bool = False) -> None:
        """Ends the process: it has read its last job."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        if kill:
            process.kill()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()
        process.stdout.close()


_WORKER = _Worker()
atexit.register(_WORKER.close)

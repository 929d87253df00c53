"""What holds for every request: headers, sizes, rates.

The policy on content allows scripts, styles and requests of our own origin and nothing
inline, so that no text of a task could run even if a page forgot to escape it.
"""

import collections
import hashlib
import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Guards", "Rates"]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
MAX_BODY = 2 << 20  # bytes of a labeler's request
MAX_UPLOAD = 256 << 20  # bytes of a researcher's file
_UPLOADS = ("/research/batches", "/exchange/")


class Rates:
    """How often something may happen per key; a bucket that refills steadily.

    Args:
      burst: at once.
      per_second: refill.
      clock: seconds.
    """

    MOST_KEYS = 10_000

    def __init__(
        self,
        burst: float,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.burst, self.per_second, self.clock = burst, per_second, clock
        self._levels: collections.OrderedDict[str, tuple[float, float]] = (
            collections.OrderedDict()
        )
        self._lock = threading.Lock()

    def allow(self, key: str) -> bool:
        """Takes one from the key's bucket; False where it is empty."""
        now = self.clock()
        with self._lock:
            level, at = self._levels.pop(key, (self.burst, now))
            level = min(self.burst, level + (now - at) * self.per_second)
            allowed = level >= 1
            self._levels[key] = (level - 1 if allowed else level, now)
            if len(self._levels) > self.MOST_KEYS:
                self._levels.popitem(last=False)
        return allowed


class Guards:
    """ASGI middleware around the application.

    Args:
      app: what is guarded.
      logins: rate of attempts to sign in, per address.
      requests: rate of requests, per session or address.
    """

    def __init__(self, app: Any, logins: Rates, requests: Rates):
        self.app, self.logins, self.requests = app, logins, requests

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuses what is too much, adds the headers to the rest."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {k.decode("latin-1"): v for k, v in scope["headers"]}
        path = scope["path"]

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                found = {k.lower() for k, _ in message["headers"]}
                extra = dict(HEADERS)
                if b"cache-control" not in found:
                    extra["cache-control"] = "no-store"
                message["headers"] += [
                    (k.encode(), v.encode())
                    for k, v in extra.items()
                    if k.encode() not in found
                ]
            await send(message)

        if not self._allowed(scope, headers, path):
            await _refuse(guarded, 429, "Too many requests. Please wait a little.")
            return
        limit = MAX_UPLOAD if path.startswith(_UPLOADS) else MAX_BODY
        length = headers.get("content-length", b"0")
        if not length.isdigit() or int(length) > limit:
            await _refuse(guarded, 413, "This is too long.")
            return
        await self.app(scope, _limited(receive, limit), guarded)

    def _allowed(self, scope: Any, headers: dict[str, bytes], path: str) -> bool:
        address = (scope.get("client") or ("",))[0]
        if path == "/login" and scope["method"] == "POST":
            return self.logins.allow(address)
        if path.startswith("/static/"):
            return True
        named = headers.get("cookie") or headers.get("authorization")
        key = hashlib.sha256(named).hexdigest() if named else address
        return self.requests.allow(key)


def _limited(receive: Any, limit: int) -> Any:
    """A body that is cut off when it turns out longer than it said."""
    seen = 0

    async def counted() -> Any:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            return {"type": "http.disconnect"}
        return message

    return counted


async def _refuse(send: Any, status: int, why: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"5")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": why.encode()})

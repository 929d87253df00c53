"""One JSON request to a service over HTTP, with the standard library only.

Redirects are not followed, since they would carry the key elsewhere; a reply has a
deadline and a greatest size; what is cut, late or refused for a while is asked again.
No message holds the key.
"""

import contextlib
import datetime
import email.utils
import http.client
import json
import os
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from rlhf_jax.errors import InputError, RunError

MOST_BYTES = 4 << 20  # of a reply


def post_json(
    url: str,
    body: dict,
    *,
    headers: dict[str, str] | None = None,
    timeout: float = 60.0,
    deadline: float = 600.0,
    attempts: int = 4,
    pause: float = 1.0,
) -> dict:
    """POSTs JSON and reads the JSON answer.

    Args:
      url: where.
      body: what.
      headers: besides the content type.
      timeout: seconds for one attempt, from the connection to the last byte.
      deadline: seconds for all attempts and the pauses between them.
      attempts: tries before giving up: on timeouts, refused connections, replies that
        are cut, 429 and 5xx.
      pause: seconds before the second try; doubled for each one after it. What the
        server asks for in Retry-After is waited at least.

    Raises:
      RunError: the server refuses, redirects, stays silent, or answers with too much or
        with something else.
    """
    end = time.monotonic() + deadline
    request = urllib.request.Request(
        url,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **(headers or {})},
    )
    place = f"{urllib.parse.urlsplit(url).hostname}{urllib.parse.urlsplit(url).path}"
    for attempt in range(1, attempts + 1):
        wait = pause * 2 ** (attempt - 1)
        try:
            return _answer(request, min(timeout, max(end - time.monotonic(), 0.001)))
        except _Refused as error:
            reason, again, asked = str(error), error.again, error.wait
        wait = max(wait, asked)
        if again and time.monotonic() + wait > end:
            reason, again = f"{reason}; the deadline of {deadline:g} s is over", False
        if not again or attempt == attempts:
            raise RunError(f"{place}: {_masked(reason, headers)} (attempt {attempt})")
        time.sleep(wait)
    raise AssertionError("unreachable")


class _Refused(Exception):
    """No answer: why, whether to ask again, and after how many seconds at least."""

    def __init__(self, why: str, *, again: bool, wait: float = 0.0):
        super().__init__(why)
        self.again, self.wait = again, wait


def _answer(request: urllib.request.Request, seconds: float) -> dict:
    """The JSON of one reply that is whole within so many seconds."""
    sockets: list[socket.socket] = []
    over = threading.Event()

    def close() -> None:
        over.set()
        for one in sockets:
            with contextlib.suppress(OSError):  # closed already
                one.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, close)
    timer.daemon = True
    timer.start()
    try:
        with _opener(sockets).open(request, timeout=seconds) as answer:
            raw = answer.read(MOST_BYTES + 1)
            missing = answer.length  # of what Content-Length promised
    except urllib.error.HTTPError as error:
        raise _refusal(error) from None
    except (OSError, http.client.HTTPException) as error:  # refused, reset, cut, late
        why = f"no whole answer in {seconds:g} s" if over.is_set() else repr(error)
        raise _Refused(why, again=True) from None
    finally:
        timer.cancel()
    if over.is_set():
        raise _Refused(f"no whole answer in {seconds:g} s", again=True)
    if len(raw) > MOST_BYTES:
        raise _Refused(f"the answer has more than {MOST_BYTES} bytes", again=False)
    if missing:
        raise _Refused(f"the answer was cut: {missing} bytes are missing", again=True)
    try:
        return json.loads(raw.decode(errors="replace"))
    except (ValueError, RecursionError) as error:
        raise _Refused(f"the answer is not JSON: {error}", again=False) from None


def _refusal(error: urllib.error.HTTPError) -> _Refused:
    if 300 <= error.code < 400:
        return _Refused(f"HTTP {error.code}: redirects are not followed", again=False)
    try:
        said = error.read(2000).decode(errors="replace")[:200]
    except (OSError, http.client.HTTPException):
        said = "(its text was cut)"
    again = error.code == 429 or error.code >= 500
    wait = _seconds(error.headers.get("Retry-After")) if again else 0.0
    return _Refused(f"HTTP {error.code}: {said}", again=again, wait=wait)


def _seconds(retry_after: str | None) -> float:
    """Seconds of a Retry-After header, a number or a date; 0 where it says nothing."""
    if retry_after is None:
        return 0.0
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        then = email.utils.parsedate_to_datetime(retry_after)
        left = then - datetime.datetime.now(datetime.UTC)
    except (TypeError, ValueError):
        return 0.0
    return max(0.0, left.total_seconds())


def _opener(sockets: list[socket.socket]) -> urllib.request.OpenerDirector:
    """Follows no redirect, and puts the sockets it opens into a list."""

    def watched(kind: type) -> type:
        class Watched(kind):
            def connect(self):
                super().connect()
                sockets.append(self.sock)

        return Watched

    class Plain(urllib.request.HTTPHandler):
        def http_open(self, request):
            return self.do_open(watched(http.client.HTTPConnection), request)

    class Secure(urllib.request.HTTPSHandler):
        def https_open(self, request):
            return self.do_open(watched(http.client.HTTPSConnection), request)

    class Stays(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    return urllib.request.build_opener(Plain, Secure, Stays)


def _masked(text: str, headers: dict[str, str] | None) -> str:
    """A message without what the headers hold: a server may echo the key."""
    for value in (headers or {}).values():
        for secret in (value, value.rpartition(" ")[2]):
            text = text.replace(secret, "***") if secret else text
    return text


def bearer(key_variable: str | None) -> dict[str, str]:
    """The authorisation header from an environment variable; none when not asked.

    Raises:
      InputError: the variable is named but not set, or holds no key.
    """
    if not key_variable:
        return {}
    key = os.environ.get(key_variable, "").strip()
    if not key:
        raise InputError(f"the environment variable {key_variable} is not set")
    if not key.isascii() or not key.isprintable():
        raise InputError(
            f"the environment variable {key_variable}: expected a key of plain letters"
        )
    return {"Authorization": f"Bearer {key}"}

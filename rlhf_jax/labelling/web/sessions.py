"""Who asks, and whether the request comes from one of our own pages."""

import hmac
import urllib.parse
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from rlhf_jax.labelling import access
from rlhf_jax.labelling.refusals import Forbidden, Unknown
from rlhf_jax.labelling.store import Store

__all__ = ["labeler", "researcher", "same_origin", "signed_in", "store_of"]

COOKIE = "rlhf_label"


def store_of(request: Request) -> Store:
    """The study that this server serves."""
    return request.app.state.store


def signed_in(request: Request, csrf: str | None = None) -> Any:
    """The person behind the session cookie.

    Args:
      request: a request that changes something needs the session's CSRF token too, in
        the header `X-CSRF-Token` or as `csrf`.
      csrf: from a form.

    Raises:
      Unknown: there is no session.
      Forbidden: the request does not come from our own page.
    """
    person = access.session_of(store_of(request), request.cookies.get(COOKIE))
    if request.method not in {"GET", "HEAD"}:
        same_origin(request)
        given = csrf or request.headers.get("x-csrf-token") or ""
        if not hmac.compare_digest(given.encode(), person.csrf.encode()):
            raise Forbidden("This form is too old or not ours. Please reload the page.")
    return person


def labeler(request: Request) -> Any:
    """Anybody who may work: a labeler, or a researcher who adjudicates."""
    return signed_in(request)


def researcher(request: Request, csrf: str | None = None) -> Any:
    """A researcher.

    Raises:
      Forbidden: a labeler asks.
    """
    person = signed_in(request, csrf)
    if person.role != "researcher":
        raise Forbidden("This page is for researchers.")
    return person


def program(request: Request) -> Any:
    """The researcher whose token a program sends as `Authorization: Bearer`.

    Raises:
      Unknown: no such token.
    """
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token:
        raise Unknown("Expected the header Authorization: Bearer TOKEN.")
    return access.researcher_of(store_of(request), token.strip())


def same_origin(request: Request) -> None:
    """Refuses what another site's page makes a browser send.

    Raises:
      Forbidden: the browser says that the request comes from elsewhere.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in {
        "same-origin",
        "none",
    }:
        raise Forbidden("This request comes from another site.")
    origin = request.headers.get("origin")
    if origin and urllib.parse.urlsplit(origin).netloc != request.headers.get("host"):
        raise Forbidden("This request comes from another site.")


def set_session(request: Request, response: Response, secret: str) -> None:
    """Gives the browser its cookie; scripts cannot read it, other sites not send it."""
    secure = request.app.state.secure
    response.set_cookie(
        COOKIE,
        secret,
        max_age=int(access.SESSION_HOURS * 3600),
        httponly=True,
        samesite="lax",
        secure=secure,
        path="/",
    )

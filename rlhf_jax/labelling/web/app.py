"""The application: routes, guards, errors as a page or as JSON."""

import pathlib
import time
from typing import Any

import jinja2
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.staticfiles import StaticFiles

from rlhf_jax.errors import InputError
from rlhf_jax.labelling.refusals import Refusal, Unknown
from rlhf_jax.labelling.store import Store
from rlhf_jax.labelling.web import machine, research, research_forms, work
from rlhf_jax.labelling.web.guards import Guards, Rates
from rlhf_jax.labelling.web.views import Places

__all__ = ["create_app"]

HERE = pathlib.Path(__file__).parent


def create_app(
    store: Store,
    *,
    title: str = "Labelling",
    secure: bool = False,
    login_rate: tuple[float, float] = (10, 0.2),
    request_rate: tuple[float, float] = (120, 20),
) -> FastAPI:
    """The server of one study, as an ASGI application.

    Args:
      store: its database.
      title: shown on every page.
      secure: cookies go over https alone; for a server behind TLS.
      login_rate: attempts to sign in per address: at once, and per second after.
      request_rate: requests per session: at once, and per second after.
    """
    app = FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.store, app.state.secure = store, secure
    app.state.page = _pages(title)
    app.state.tables = research.Tables(store)
    app.state.places = Places(store)
    for part in (work, research, research_forms, machine):
        app.include_router(part.router)
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(InputError, _refused)
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(HTTPException, _refused)
    app.add_middleware(Guards, logins=Rates(*login_rate), requests=Rates(*request_rate))
    return app


def _pages(title: str) -> Any:
    """A function that fills a template; every value is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["when"] = lambda at: time.strftime(
        "%Y-%m-%d %H:%M", time.gmtime(at)
    )
    environment.filters["percent"] = lambda x: "–" if x is None else f"{100 * x:.1f} %"

    def page(
        request: Request, name: str, person: Any, *, status: int = 200, **values: Any
    ) -> HTMLResponse:
        text = environment.get_template(name).render(
            title=title, person=person, path=request.url.path, **values
        )
        body = text.encode("utf-8", "replace")
        return HTMLResponse(body, status)

    return page


def _refused(request: Request, error: Exception) -> Response:
    """An error as JSON for programs and scripts, as a page for people."""
    status, why = _told(error)
    if request.url.path.startswith("/static/"):
        return PlainTextResponse(why, status)
    if request.url.path.startswith(("/api/", "/exchange/")):
        return JSONResponse({"error": why}, status)
    if isinstance(error, Unknown):
        return RedirectResponse("/login", 303)
    return request.app.state.page(
        request, "error.html", None, status=status, why=why, code=status
    )


def _told(error: Exception) -> tuple[int, str]:
    if isinstance(error, Refusal):
        return error.status, str(error)
    if isinstance(error, HTTPException):
        return error.status_code, str(error.detail)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return 422, f"{where}: {first['msg']}"
    return 422, str(error)

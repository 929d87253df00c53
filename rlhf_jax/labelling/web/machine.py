"""The pipeline's side: sets in, rankings out, with a researcher's token."""

from typing import Annotated, Any

from fastapi import APIRouter, Body
from starlette.requests import Request

from rlhf_jax.labelling.exchange import act
from rlhf_jax.labelling.web.sessions import program, store_of

__all__ = ["router"]

router = APIRouter(prefix="/exchange")
Json = Annotated[dict[str, Any], Body()]


@router.post("/publish")
def publish(request: Request, body: Json) -> dict[str, Any]:
    """Puts a batch before people and says how far it is."""
    program(request)
    return act(store_of(request), "publish", body)


@router.post("/collect")
def collect(request: Request, body: Json) -> dict[str, Any]:
    """The rankings of a batch so far."""
    program(request)
    return act(store_of(request), "collect", body)

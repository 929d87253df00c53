"""The server as a process of its own, or beside something else for a while."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from rlhf_jax.errors import InputError
from rlhf_jax.labelling import schema
from rlhf_jax.labelling.access import add_person
from rlhf_jax.labelling.store import Store

__all__ = ["first_researcher", "running", "serve"]

_LOCAL = {"127.0.0.1", "localhost", "::1"}


def serve(app: Any, host: str, port: int, *, allow_remote: bool = False) -> None:
    """Serves until SIGINT or SIGTERM; requests under way are finished.

    Raises:
      InputError: an address for others without `allow_remote`, or a port in use.
    """
    import uvicorn

    if host not in _LOCAL and not allow_remote:
        raise InputError(
            f"--host {host}: others could reach it; add --allow-remote, and put TLS in "
            "front of it (then --secure)"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(f"--port {port}: {error.strerror}") from error
    uvicorn.Server(_config(uvicorn, app, host=host, port=port)).run()


@contextlib.contextmanager
def running(app: Any) -> Iterator[str]:
    """The server in a thread, on a free port; yields its address."""
    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    server = uvicorn.Server(_config(uvicorn, app))
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listening]}, daemon=True
    )
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def _config(uvicorn: Any, app: Any, **options: Any) -> Any:
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=10,
        limit_concurrency=2000,
        **options,
    )


def first_researcher(store: Store) -> str | None:
    """The token of a researcher who is made where there is none yet."""
    people = schema.people
    query = sa.select(people.c.id).where(people.c.role == "researcher")
    with store.read() as connection:
        if connection.scalar(query.limit(1)) is not None:
            return None
    return add_person(store, "researcher", role="researcher", days=365)[1]

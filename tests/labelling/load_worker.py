"""Servers in processes of their own, for tests that kill them: PLACE PORT.

Loads everything once; then each line on its input makes one server, a fork that opens
the study and serves, whose process id is printed.
"""

import os
import signal
import sys

from rlhf_jax.labelling import serving
from rlhf_jax.labelling.store import open_store
from rlhf_jax.labelling.web.app import create_app


def serve(place: str, port: int) -> None:
    fast = (1e9, 1e9)
    app = create_app(open_store(place), login_rate=fast, request_rate=fast)
    serving.serve(app, "127.0.0.1", port)


if __name__ == "__main__":
    import uvicorn  # noqa: F401  before the first fork

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            serve(sys.argv[1], int(sys.argv[2]))
            os._exit(0)
        print(child, flush=True)

"""A server in a process of its own, for tests that kill it: PLACE PORT.

It loads everything, waits for a line on its input, and only then opens the study.
"""

import sys

from rlhf_jax.labelling.serving import serve
from rlhf_jax.labelling.store import open_store
from rlhf_jax.labelling.web.app import create_app

if __name__ == "__main__":
    if not sys.stdin.readline():
        sys.exit()  # nobody needs it any more
    fast = (1e9, 1e9)
    app = create_app(open_store(sys.argv[1]), login_rate=fast, request_rate=fast)
    serve(app, "127.0.0.1", int(sys.argv[2]))

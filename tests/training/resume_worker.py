"""A training run that can be killed anywhere: `resume_worker.py WORKDIR STEPS`.

Writes the hash of its last state to WORKDIR/final when it gets that far. Exit codes
are those of the command line.
"""

import logging
import pathlib
import sys

import toy_lm as toy

from rlhf_jax.checkpoints import CheckpointStore
from rlhf_jax.errors import RunError
from rlhf_jax.parallel import compile_update, make_mesh
from rlhf_jax.tracking import RunTracker
from rlhf_jax.training import resume_or_init, run_loop

SAVE_EVERY = 3


def main(workdir, steps):
    logging.basicConfig(level=logging.INFO)
    workdir = pathlib.Path(workdir)
    mesh = make_mesh()
    store = CheckpointStore(workdir / "checkpoints", keep_last=2)
    tracker = RunTracker(workdir, tensorboard=False)
    state, start = resume_or_init(
        lambda: toy.init(ema=True), mesh=mesh, store=store, tracker=tracker
    )
    update = compile_update(toy.make(ema_decay=0.9), mesh)
    try:
        state = run_loop(
            lambda state, step: update(state, toy.batch(step)),
            state,
            int(steps),
            start_step=start,
            store=store,
            tracker=tracker,
            save_every=SAVE_EVERY,
        )
    except RunError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    finally:
        store.close()
        tracker.close()
    (workdir / "final").write_text(toy.bits(state))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""A training run that can be killed anywhere: `resume_worker.py WORKDIR STEPS [SAVE]`.

Writes the hash of its last state to WORKDIR/final when it gets that far. Exit codes
are those of the command line. With SAVE it saves every SAVE steps, its steps take
longer than a save, and each one that was done is a line of WORKDIR/done.
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


def main(workdir, steps, save=None):
    logging.basicConfig(level=logging.INFO)
    workdir = pathlib.Path(workdir)
    mesh = make_mesh()
    store = CheckpointStore(workdir / "checkpoints", keep_last=2)
    tracker = RunTracker(workdir, tensorboard=False)
    state, start = resume_or_init(
        lambda: toy.init(ema=True), mesh=mesh, store=store, tracker=tracker
    )
    update = compile_update(toy.make(ema_decay=0.9), mesh)

    def step_fn(state, step):
        if save:
            store.wait()
        state, metrics = update(state, toy.batch(step))
        if save:
            with (workdir / "done").open("a") as file:
                print(step, file=file)
        return state, metrics

    try:
        state = run_loop(
            step_fn,
            state,
            int(steps),
            start_step=start,
            store=store,
            tracker=tracker,
            save_every=int(save or SAVE_EVERY),
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

"""One of two processes: `two_processes_worker.py RANK PORT OUT [SIGNAL]`.

With a SIGNAL, rank 1 sends it to itself in its fourth step of a long run.
"""

import json
import os
import pathlib
import signal
import sys

import jax
import toy_lm as toy

from rlhf_jax.errors import Preempted
from rlhf_jax.parallel import (
    compile_update,
    local_rows,
    make_mesh,
    put_batch,
    start_distributed,
)
from rlhf_jax.training import resume_or_init, run_loop

STEPS = 6


class Losses:
    def __init__(self):
        self.values = []

    def log(self, step, metrics):
        self.values.append(metrics["loss"])

    def rewind(self, step):
        pass


def main(rank, port, out, sent=None):
    start_distributed(
        "on", coordinator=f"localhost:{port}", num_processes=2, process_id=int(rank)
    )
    mesh = make_mesh(data=1, fsdp=-1)
    state, _ = resume_or_init(toy.init, mesh=mesh)
    update = compile_update(toy.make(microbatches=2), mesh)
    rows = local_rows(toy.B, mesh)

    def step_fn(state, step):
        if sent and rank == "1" and step == 3:
            os.kill(os.getpid(), signal.Signals[sent])
        batch = toy.batch(step)
        if step % 2:  # both ways of feeding, in turn
            mine = {name: value[rows] for name, value in batch.items()}
            return update(state, put_batch(mine, mesh, per_host=True))
        return update(state, batch)

    losses = Losses()
    try:
        steps = 5000 if sent else STEPS
        state = run_loop(step_fn, state, steps, tracker=losses)
    except Preempted as stopped:
        print(stopped, flush=True)
        return stopped.exit_code
    table = state.params["trunk"]["token_embed"]["embedding"]
    if rank == "0":
        facts = {"losses": losses.values, "processes": jax.process_count()}
        facts["local_rows"] = [rows.start, rows.stop]
        facts["cut"] = not table.is_fully_replicated
        pathlib.Path(out).write_text(json.dumps(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

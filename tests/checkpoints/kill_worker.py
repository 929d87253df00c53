"""A run that saves every step and may be killed; prints the hash of its last state.

Usage: kill_worker.py DIRECTORY STEPS
"""

import sys

import jax
import jax.numpy as jnp

from rlhf_jax.checkpoints import CheckpointStore, state_hash
from rlhf_jax.tracking import RunTracker


@jax.jit
def step_fn(state):
    noise = jax.random.normal(jax.random.fold_in(state["rng"], state["step"]), (64, 64))
    w = 0.9 * state["w"] + noise
    return {**state, "w": w, "m": state["m"] + w**2, "step": state["step"] + 1}


def main(directory, steps):
    zeros = jnp.zeros((64, 64))
    state = {"w": zeros, "m": zeros, "rng": jax.random.key(0), "step": jnp.int32(0)}
    store = CheckpointStore(f"{directory}/checkpoints", keep_last=2)
    tracker = RunTracker(directory, tensorboard=False)
    store.tidy()
    start = store.latest_step() or 0
    if start:
        state, meta = store.restore(state)
        assert meta["step"] == start == int(state["step"])
    tracker.rewind(start)
    print("ready", flush=True)
    for step in range(start + 1, steps + 1):
        state = step_fn(state)
        tracker.log(step, {"mean": float(state["w"].mean())})
        store.save(step, state, {"step": step})
    store.close()
    tracker.close()
    return state


if __name__ == "__main__":
    print(state_hash(main(sys.argv[1], int(sys.argv[2]))), flush=True)

"""One of two processes that save, damage and restore a sharded state together.

Usage: store_worker_of_two.py PORT PROCESS DIRECTORY
"""

import sys

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from rlhf_jax.checkpoints import CheckpointStore, state_hash
from rlhf_jax.errors import CheckpointError, NumericsError
from rlhf_jax.faults import injected


def main(port, process, directory):
    jax.distributed.initialize(f"localhost:{port}", 2, process)
    mesh = jax.make_mesh((4,), ("fsdp",), axis_types=(AxisType.Auto,))
    rows, all_ = NamedSharding(mesh, P("fsdp")), NamedSharding(mesh, P())

    def init(step):
        draw = jax.random.normal(jax.random.fold_in(jax.random.key(0), step), (8, 16))
        return {"w": draw, "rng": jax.random.key(step), "step": jnp.int32(step)}

    make = jax.jit(init, out_shardings={"w": rows, "rng": all_, "step": all_})
    store = CheckpointStore(directory, keep_last=2)
    for step in (1, 2, 3):
        store.save(step, make(step), {"step": step})
    assert store.latest_step() == 3
    restored, meta = store.restore(make(0))
    assert meta == {"step": 3} and state_hash(restored) == state_hash(make(3))
    assert restored["w"].sharding == rows

    with injected("ckpt.before_manifest:1:ENOSPC"):  # reached by process 0 only
        store.save(4, make(4))
        refused(CheckpointError, store.wait)
    with injected("ckpt.before_write:1:EIO" if process == 1 else ""):
        refused(CheckpointError, store.save, 4, make(4))
    sick = make(4)
    sick["w"] = jax.jit(lambda w: w.at[7, 0].set(jnp.nan))(sick["w"])
    refused(NumericsError, store.save, 4, sick)
    assert store.latest_step() == 3

    if process == 0:
        path = store.directory / "3" / "_METADATA"
        path.write_bytes(b"?" + path.read_bytes()[1:])
    restored, meta = store.restore(make(0))
    assert meta == {"step": 2} and state_hash(restored) == state_hash(make(2))
    refused(CheckpointError, store.restore, make(0), step=3)
    store.save(3, make(5))
    store.close()
    assert store.latest_step() == 3
    print(state_hash(store.restore(make(0))[0]) == state_hash(make(5)), flush=True)


def refused(kind, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except kind:
        return
    raise AssertionError(f"{call} did not raise {kind}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

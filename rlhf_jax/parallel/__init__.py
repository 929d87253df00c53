"""Where arrays live: one pure update runs on any mesh.

mesh         the ("data", "fsdp", "tensor") mesh, by shape or "auto"
sharding     ordered (path regex, PartitionSpec) rules -> shardings of a whole state
compiled     the production driver: updates and functions over a mesh, one program
             per shape
pmap         the second driver: the same update under `jax.pmap`
feeding      a batch from the host to the mesh, each process its own rows; minibatches
gathering    results as numpy arrays, on every process
distributed  `jax.distributed` start-up, explicit or when a cluster is detected
topologies   TPUs that are not here, to compile for
compiled_text  what a compiled program says: FLOPs, collectives
flops        the products of a program that is not compiled yet
hardware     chips that are not here: how fast, how much memory
repeatable   runs that repeat bit for bit on a GPU
allocator    keeps freed host memory in the process (2-3x on CPU steps)
"""

from rlhf_jax.parallel.allocator import keep_freed_memory
from rlhf_jax.parallel.compiled import (
    CompiledFunction,
    CompiledUpdate,
    compile_function,
    compile_update,
)
from rlhf_jax.parallel.distributed import detect_cluster, start_distributed
from rlhf_jax.parallel.feeding import (
    local_rows,
    put_batch,
    take_rows,
    whole_rows,
)
from rlhf_jax.parallel.gathering import to_host
from rlhf_jax.parallel.mesh import AXES, BATCH_AXES, in_force, make_mesh, parse_mesh
from rlhf_jax.parallel.pmap import pmap_update, replicate, split_rows, unreplicate
from rlhf_jax.parallel.repeatable import repeat_on_gpu, unrepeatable
from rlhf_jax.parallel.sharding import (
    DEFAULT_RULES,
    batch_sharding,
    init_sharded,
    mesh_of,
    path_name,
    placed,
    shardings,
)
from rlhf_jax.parallel.topologies import topology_devices

__all__ = [
    "AXES",
    "BATCH_AXES",
    "DEFAULT_RULES",
    "CompiledFunction",
    "CompiledUpdate",
    "batch_sharding",
    "compile_function",
    "compile_update",
    "detect_cluster",
    "in_force",
    "init_sharded",
    "keep_freed_memory",
    "local_rows",
    "make_mesh",
    "mesh_of",
    "parse_mesh",
    "path_name",
    "placed",
    "pmap_update",
    "put_batch",
    "repeat_on_gpu",
    "replicate",
    "shardings",
    "split_rows",
    "start_distributed",
    "take_rows",
    "to_host",
    "topology_devices",
    "unrepeatable",
    "unreplicate",
    "whole_rows",
]

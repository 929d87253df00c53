"""Checkpoints that are complete, verified, and refused if wrong.

store      CheckpointStore: save, restore, fall back, hand over a part
saver      one save at a time in the background
manifest   the file that vouches for all others, hash by hash
catalogue  which steps are usable, and why the others are not
preflight  does a checkpoint fit the run? asked before an array is read
steps      the names in the directory, and which steps are kept
arrays     arrays on disk, the only file that knows Orbax
processes  one decision for all processes
messages   what to tell about an error of the disk
leaves     a state as a flat table of paths and specs
hashes     content hashes of files, directories and states
"""

from rlhf_jax.checkpoints.hashes import checksum, state_hash, tree_hash
from rlhf_jax.checkpoints.leaves import differences, flat, leaf_specs, named_leaves
from rlhf_jax.checkpoints.manifest import Manifest, read_manifest
from rlhf_jax.checkpoints.steps import kept_steps
from rlhf_jax.checkpoints.store import CheckpointStore

__all__ = [
    "CheckpointStore",
    "Manifest",
    "checksum",
    "differences",
    "flat",
    "kept_steps",
    "leaf_specs",
    "named_leaves",
    "read_manifest",
    "state_hash",
    "tree_hash",
]

"""What a run tells: metrics, progress, traces, and where it came from.

tracker             RunTracker: each step's metrics once, to every writer
lines               lines of JSON that survive a kill; read_metrics
tensorboard         event files, without TensorFlow
weights_and_biases  where installed and asked for
progress            rate and time left, a bar or plain lines
run_directory       RunDirectory: config, overrides, versions, revision, data hashes
profiler            a profiler trace of some steps
"""

from rlhf_jax.tracking.lines import LineFile, read_metrics
from rlhf_jax.tracking.profiler import traced
from rlhf_jax.tracking.progress import Progress, progress
from rlhf_jax.tracking.run_directory import RunDirectory, revision, versions
from rlhf_jax.tracking.tracker import RunTracker

__all__ = [
    "LineFile",
    "Progress",
    "RunDirectory",
    "RunTracker",
    "progress",
    "read_metrics",
    "revision",
    "traced",
    "versions",
]

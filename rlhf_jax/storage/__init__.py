"""Where a run lives: files replaced whole, by one writer, with a barrier.

files      a file is as it was or as it shall be, whatever ends the process
processes  one decision and one writer for all processes of a run
"""

from rlhf_jax.storage.files import (
    replacing,
    replacing_here,
    write_json,
    write_lines,
    write_text,
)
from rlhf_jax.storage.processes import (
    any_process,
    decided,
    is_first_process,
    process_count,
)

__all__ = [
    "any_process",
    "decided",
    "is_first_process",
    "process_count",
    "replacing",
    "replacing_here",
    "write_json",
    "write_lines",
    "write_text",
]

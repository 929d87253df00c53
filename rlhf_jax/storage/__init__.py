"""Where a run lives: files replaced whole, by one writer, with a barrier.

contents   what a file holds, as a hash
files      a file is as it was or as it shall be, whatever ends the process
links      nothing in a run directory leads out of it
processes  one decision and one writer for all processes of a run
reading    files that somebody else may have made
"""

from rlhf_jax.storage.contents import content_of
from rlhf_jax.storage.files import (
    clear_partials,
    replacing,
    replacing_here,
    write_json,
    write_lines,
    write_text,
)
from rlhf_jax.storage.links import (
    beside,
    looks_local,
    no_links,
    require_no_links,
    require_plain_name,
)
from rlhf_jax.storage.processes import (
    any_process,
    decided,
    is_first_process,
    process_count,
    require_one_directory,
    require_same,
    together,
)
from rlhf_jax.storage.reading import read_bytes, read_json, require_regular

__all__ = [
    "any_process",
    "beside",
    "clear_partials",
    "content_of",
    "decided",
    "is_first_process",
    "looks_local",
    "no_links",
    "process_count",
    "read_bytes",
    "read_json",
    "replacing",
    "replacing_here",
    "require_no_links",
    "require_one_directory",
    "require_plain_name",
    "require_regular",
    "require_same",
    "together",
    "write_json",
    "write_lines",
    "write_text",
]

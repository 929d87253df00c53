"""Compiled programs are kept between commands: a second start compiles nothing.

They lie in the user's cache folder, one folder per kind of CPU, because a home may be
shared by machines that cannot run each other's programs; the oldest go first.
"""

import hashlib
import os
import pathlib
import platform

FOLDER = "JAX_COMPILATION_CACHE_DIR"
SIZE = "JAX_COMPILATION_CACHE_MAX_SIZE"
ENABLED = "JAX_ENABLE_COMPILATION_CACHE"
MOST = 4 * 2**30  # bytes


def keep_programs(wanted: bool = True) -> pathlib.Path | None:
    """Tells jax where to keep programs; call before jax is imported.

    jax's own variables, where the environment has them, stay as they are. Processes
    that this one starts inherit what is said here.

    Args:
      wanted: False: nothing is kept, and nothing that was kept is used.

    Returns:
      The folder; None where the environment decides, or nothing is kept.
    """
    if not wanted:
        os.environ[ENABLED] = "false"
    if FOLDER in os.environ or os.environ.get(ENABLED, "true").lower() == "false":
        return None
    try:
        home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        folder = home / "rlhf_jax" / f"programs-{_cpu()}"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home, or one that cannot be written
        return None
    os.environ[FOLDER] = str(folder)
    os.environ.setdefault(SIZE, str(MOST))
    return folder


def _cpu() -> str:
    """A name for what programs of this machine's CPU can run on."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    told = [line for line in lines if line.startswith(("model name", "flags"))][:2]
    told += [platform.machine(), platform.processor()]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:8]

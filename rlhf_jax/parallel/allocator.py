"""Host memory on CPU: keep what is freed.

XLA allocates the buffers of every step anew. The C library gives large blocks back to
the kernel at once, so that each step faults all its pages in again, 4 KiB at a time.
What a compilation used is given back all the same: it is much, and seldom needed again.
"""

import ctypes

import jax.monitoring

# malloc.h of the GNU C library
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> bool:
    """Makes the C library keep freed memory in one heap; call before the first step.

    The same as MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 and a high trim threshold in the
    environment. Only for CPU: the process keeps its peak of host memory until it
    compiles the next program or ends.

    Returns:
      Whether it took effect (False where the C library is not glibc).
    """
    try:
        library = ctypes.CDLL(None)
        mallopt, trim = library.mallopt, library.malloc_trim
    except (AttributeError, OSError):
        return False
    settings = (
        (_MMAP_MAX, 0),
        (_ARENA_MAX, 1),
        (_TRIM_THRESHOLD, -1),
        (_TOP_PAD, 64 << 20),
    )

    def compiled(event: str, duration: float, **_: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(compiled)
    return all([mallopt(name, value) for name, value in settings])

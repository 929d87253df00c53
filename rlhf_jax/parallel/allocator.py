"""Host memory on CPU: keep what is freed.

XLA allocates the buffers of every step anew. The C library gives large blocks back to
the kernel at once, so that each step faults all its pages in again, 4 KiB at a time.
"""

import ctypes

# malloc.h of the GNU C library
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> bool:
    """Makes the C library keep freed memory in one heap; call before the first step.

    The same as MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 and a high trim threshold in the
    environment. Only for CPU: the process keeps its peak of host memory until it ends.

    Returns:
      Whether it took effect (False where the C library is not glibc).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = (
        (_MMAP_MAX, 0),
        (_ARENA_MAX, 1),
        (_TRIM_THRESHOLD, -1),
        (_TOP_PAD, 64 << 20),
    )
    return all([mallopt(name, value) for name, value in settings])

"""Host memory on CPU: keep what is freed, but for the largest blocks.

XLA allocates the buffers of every step anew. The C library gives blocks of 128 KiB and
more back to the kernel at once, so that each step faults all its pages in again, 4 KiB
at a time. Kept in one heap they are used again, if a later block fits in.

The largest do not fit: an aligned block is cut out of a larger one, and what is cut off
goes to small objects that stay; a block of the same size then finds no room, and the
heap grows by it in every step (by 0.9 GiB a step for a model of 135 M parameters, until
the kernel kills the process). So blocks of 32 MiB and more, the most that the library
lets be set, are mapped and given back one by one. So is what a compilation used: it is
much, and seldom needed again.
"""

import ctypes

import jax.monitoring

# malloc.h of the GNU C library
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_LARGE = 32 << 20  # bytes


def keep_freed_memory() -> bool:
    """Makes the C library keep freed memory in one heap; call before the first step.

    The same as MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=33554432 and a high trim
    threshold in the environment. Only for CPU: of blocks below 32 MiB the process keeps
    its peak until it compiles the next program or ends.

    Returns:
      Whether it took effect (False where the C library is not glibc).
    """
    try:
        library = ctypes.CDLL(None)
        mallopt, trim = library.mallopt, library.malloc_trim
    except (AttributeError, OSError):
        return False
    settings = (
        (_MMAP_THRESHOLD, _LARGE),
        (_ARENA_MAX, 1),
        (_TRIM_THRESHOLD, -1),
        (_TOP_PAD, 64 << 20),
    )

    def compiled(event: str, duration: float, **_: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(compiled)
    return all([mallopt(name, value) for name, value in settings])

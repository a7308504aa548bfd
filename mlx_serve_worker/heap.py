"""The C library's heap, which has the arrays of a CPU: what is freed is kept for the next, until
all of it is given back.

Invariants: a process on another C library than glibc computes as well, only slower.
"""

import ctypes
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_BYTES = 32 * 1024**2
"""What is larger is given back to the kernel at once, and computing it takes longer than asking for
it again."""


def keep_freed(most_bytes: int) -> bool:
    """Keep so much at the heap's end; whether that was understood.

    By itself the heap gives back large arrays as soon as they are freed, so that each pass asks for
    all of its memory anew, which takes up to a quarter of its time.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES) and mallopt(_TRIM_THRESHOLD, most_bytes))


def give_back() -> None:
    """All that is free, also what lies between arrays that stay."""
    if (trim := _of_glibc("malloc_trim")) is not None:
        trim(0)


def _of_glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None)

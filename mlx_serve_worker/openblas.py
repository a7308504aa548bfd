"""OpenBLAS in this process, where it is: which, and how many threads it may use.

Invariants: a process without it computes as well, only slower.
"""

import ctypes
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple


class OpenBlas(NamedTuple):
    set_threads: Callable[[int], object]
    threads: int
    configuration: str
    """Its version, and the kernels that it computes with."""

    @contextmanager
    def one_thread_each(self) -> Iterator[None]:
        self.set_threads(1)
        try:
            yield
        finally:
            self.set_threads(self.threads)


@functools.cache
def openblas() -> OpenBlas | None:
    process = ctypes.CDLL(None)
    try:
        threads = process.openblas_get_num_threads()
        process.openblas_get_config.restype = ctypes.c_char_p
        configuration = process.openblas_get_config().decode(errors="replace")
        return OpenBlas(process.openblas_set_num_threads, threads, configuration)
    except AttributeError:
        return None

"""The optimised BLAS in this process, where it is: which, and how many threads it may use.

Invariants: a process without one computes as well, only slower.
"""

import ctypes
import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

_VERSION_BYTES = 200


class Blas(NamedTuple):
    name: str
    set_up: Callable[[bool], object]
    """For lanes, each of which multiplies many rows with one thread; or, told ``False``, for
    products by themselves, whose rows are mostly few."""
    threads: int
    """Of a product by itself."""
    lanes: int
    """So many threads can use it at the same time without being in each other's way."""
    configuration: str
    """Its version, and the kernels that it computes with."""

    @contextmanager
    def in_lanes(self) -> Iterator[None]:
        self.set_up(True)
        try:
            yield
        finally:
            self.set_up(False)


@functools.cache
def blas() -> Blas | None:
    process = ctypes.CDLL(None)
    for found in (_openblas, _blis, _mkl):
        try:
            return found(process)
        except AttributeError:
            pass
    return None


def _openblas(process: Any) -> Blas:
    threads = process.openblas_get_num_threads()
    set_up = _one_in_lanes(process.openblas_set_num_threads, threads)
    # How it was built follows its name and version.
    version = " ".join(_text(process.openblas_get_config).split()[:2])
    kernels = _text(process.openblas_get_corename)
    return Blas("OpenBLAS", set_up, threads, threads, f"{version} for {kernels}")


def _blis(process: Any) -> Blas:
    get_threads = process.bli_thread_get_num_threads
    set_threads = process.bli_thread_set_num_threads
    get_threads.restype, set_threads.argtypes = ctypes.c_int64, [ctypes.c_int64]
    packings = process.bli_pack_set_pack_a, process.bli_pack_set_pack_b
    threads = max(1, get_threads())

    choose_threads = _one_in_lanes(set_threads, threads)

    def set_up(is_in_lanes: bool) -> None:
        choose_threads(is_in_lanes)
        for set_packing in packings:
            # It takes matrices as they lie up to 511 rows, but 64 are enough to make up for the
            # time that it takes to lay them out well: a seventh to a third is gained.
            set_packing(is_in_lanes)

    process.bli_arch_string.restype = ctypes.c_char_p
    kernels = process.bli_arch_string(process.bli_arch_query_id()).decode(errors="replace")
    version = _text(process.bli_info_get_version_str)
    # One thread for each product is how we start it, and says nothing of the machine.
    lanes = max(threads, _cores())
    return Blas("BLIS", set_up, threads, lanes, f"BLIS {version} for {kernels}")


def _mkl(process: Any) -> Blas:
    version = ctypes.create_string_buffer(_VERSION_BYTES)
    process.MKL_Get_Version_String(version, _VERSION_BYTES)
    threads = process.MKL_Get_Max_Threads()
    set_up = _one_in_lanes(process.MKL_Set_Num_Threads, threads)
    told = version.value.decode(errors="replace").strip()
    return Blas("MKL", set_up, threads, threads, told)


def _one_in_lanes(set_threads: Callable[[int], object], threads: int) -> Callable[[bool], object]:
    return lambda is_in_lanes: set_threads(1 if is_in_lanes else threads)


def _text(ask: Any) -> str:
    ask.restype = ctypes.c_char_p
    told: bytes = ask()
    return told.decode(errors="replace")


def _cores() -> int:
    """Those that this process may use, or as many as the person has allowed."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    if allowed.isdecimal():
        return int(allowed)
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

"""The heap: passes do without new memory from the kernel, which gets back what is free."""

import ctypes
import platform

import pytest

from mlx_serve_worker import device, heap
from tests.engine.python import run_python

_FAULTS = """
import resource, sys
import mlx.core as mx
from mlx_serve_worker import heap

if sys.argv[1] == "kept":
    assert heap.keep_freed(256 * 1024**2)
mx.set_cache_limit(0)

def passes(lengths):
    for length in lengths:
        x = mx.ones((length, 512))
        mx.eval([((x * 2 + 1) * 3 - x).sum() for _ in range(3)])

passes(range(900, 1000, 10))
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
passes(range(900, 1000, 7))
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
_HOLES = """
import psutil
import mlx.core as mx
from mlx_serve_worker import heap

heap.keep_freed(256 * 1024**2)
mx.set_cache_limit(0)
rss = lambda: psutil.Process().memory_info().rss // 1024**2
arrays = [mx.full((1024, 256), at) for at in range(200)]
mx.eval(arrays)
kept = arrays[::2]
del arrays
before = rss()
heap.give_back()
print(before - rss())
assert [int(array[5, 5]) for array in kept] == [*range(0, 200, 2)]
"""

pytestmark = pytest.mark.engine
in_the_heap = pytest.mark.skipif(
    device.current().fuses or platform.libc_ver()[0] != "glibc",
    reason="a GPU has memory of its own, and another C library another heap",
)


@in_the_heap
def test_what_was_freed_is_used_again() -> None:
    kept, given_back = (int(run_python(_FAULTS, how)) for how in ("kept", "not"))
    assert kept < 500
    assert kept < given_back / 10


@in_the_heap
def test_what_is_free_between_arrays_is_given_back() -> None:
    """A hundred of 1 MiB were freed, each between two that stay."""
    assert int(run_python(_HOLES)) > 80


def test_another_c_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not heap.keep_freed(1)
    heap.give_back()

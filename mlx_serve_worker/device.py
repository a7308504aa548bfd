"""What computes, and every choice that depends on it: the one place where Metal differs from a CPU.

Invariants: nothing else in the worker asks which device there is.
"""

import functools
import logging
import os
from typing import Any, cast

import mlx.core as mx
import msgspec

from mlx_serve_common.device import SLOW_GFLOPS
from mlx_serve_worker import heap
from mlx_serve_worker.blas import blas
from mlx_serve_worker.matmul_speed import matmul_gflops

log = logging.getLogger(__name__)

_MIB = 1024 * 1024


class Device(msgspec.Struct, frozen=True):
    name: str
    batch_tokens: int
    """Most tokens of one forward pass: more saves next to nothing and delays whoever comes
    meanwhile, less starves a GPU."""
    batch_choices: tuple[int, ...]
    """What may suit a model better. No more than twice the usual, for memory's sake."""
    prefill_tokens: int
    """Tokens of new prompts that are read between two steps of running answers: more delays these,
    less reads the same in more passes."""
    cache_bytes: int
    """Freed memory that is kept for reuse; MLX's own default on Metal is all of the memory."""
    computes_half: bool
    """Whether half-precision weights are computed as stored: a CPU has no fast path for them."""
    computing_workers: int | None
    """So many compute bulk loads at the same time: a GPU is full with one, while on a CPU each has
    moments in which it leaves a core to another."""
    fuses: bool
    """Whether ``mx.compile`` pays; on a CPU it starts a C++ compiler for every new kernel."""


_CPU = Device(
    name="cpu",
    batch_tokens=512,
    batch_choices=(128, 256, 512, 1024),
    prefill_tokens=256,
    cache_bytes=256 * _MIB,
    computes_half=False,
    computing_workers=None,
    fuses=False,
)


def configure() -> None:
    """Set MLX up for this device. Called before a model is loaded."""
    if current().fuses:
        mx.set_cache_limit(current().cache_bytes)
    else:
        _configure_cpu(current().cache_bytes)
    speed = current_gflops()
    if speed is not None and speed < SLOW_GFLOPS:
        log.warning(
            "this CPU multiplies matrices at %.0f GFLOP/s, tens of times slower than with an"
            " optimised BLAS; mlx-serve doctor tells what to do",
            speed,
        )


def _configure_cpu(cache_bytes: int) -> None:
    # MLX keeps buffers as they are, and texts of other lengths need others. A heap splits them and
    # joins them.
    is_kept = heap.keep_freed(cache_bytes)
    mx.set_cache_limit(0 if is_kept else cache_bytes)
    # Libraries compile their activations, and on a CPU that means: run a C++ compiler, and load
    # what it made from /tmp/mlx, where another user may have put something else.
    mx.disable_compile()
    # MLX starts operations in the order in which its search of what there is to compute finds them,
    # ten at a time. Where more than 20 are found at once, it goes on with one lane to its end, and
    # the other waits for that. It reads this when it first computes.
    os.environ.setdefault("MLX_BFS_MAX_WIDTH", "1000")


def current_gflops() -> float | None:
    """How fast matrices are multiplied, where that is not beyond question."""
    return matmul_gflops() if current() is _CPU else None


@functools.cache
def current() -> Device:
    if mx.default_device().type == mx.cpu:
        return _CPU
    name = "metal" if mx.metal.is_available() else "cuda"
    return Device(
        name=name,
        batch_tokens=8192,
        batch_choices=(1024, 2048, 4096, 8192),
        prefill_tokens=2048,
        cache_bytes=256 * _MIB,
        computes_half=True,
        computing_workers=1,
        fuses=True,
    )


def identity() -> str:
    device, library = current(), blas()
    kernels = None
    if not device.fuses and library is not None:
        kernels = library.configuration, library.threads, library.lanes
    version = cast("Any", mx).__version__  # which its types leave out
    return str((device.name, sorted(mx.device_info().items()), version, kernels))


class OnDevice:
    """What every backend here says of it."""

    @property
    def device(self) -> str:
        return current().name

    @property
    def matmul_gflops(self) -> float | None:
        return current_gflops()

    @property
    def matmul_library(self) -> str | None:
        library = blas()
        if current() is not _CPU:
            return None
        return "MLX" if library is None else library.name

    @property
    def batch_tokens(self) -> int:
        return current().batch_tokens

    @property
    def batch_choices(self) -> tuple[int, ...]:
        return current().batch_choices

    @property
    def device_identity(self) -> str:
        return identity()

    @property
    def computing_workers(self) -> int | None:
        return current().computing_workers

    def memory_bytes(self) -> int:
        return mx.get_active_memory() + mx.get_cache_memory()

    def give_back_memory(self) -> None:
        mx.clear_cache()
        heap.give_back()

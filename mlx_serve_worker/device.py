"""What computes, and every choice that depends on it: the one place where Metal differs from a CPU.

Invariants: nothing else in the worker asks which device there is.
"""

import functools
import logging

import mlx.core as mx
import msgspec

from mlx_serve_common.device import SLOW_GFLOPS
from mlx_serve_worker.matmul_speed import matmul_gflops

log = logging.getLogger(__name__)

_MIB = 1024 * 1024


class Device(msgspec.Struct, frozen=True):
    name: str
    batch_tokens: int
    """Most padded tokens of one forward pass: more saves next to nothing and delays whoever comes
    meanwhile, less starves a GPU."""
    prefill_tokens: int
    """Tokens of new prompts that are read between two steps of running answers: more delays these,
    less reads the same in more passes."""
    cache_bytes: int
    """Buffers MLX may keep for reuse; its own default on Metal is all of the memory."""
    computes_half: bool
    """Whether half-precision weights are computed as stored: a CPU has no fast path for them."""
    fuses: bool
    """Whether ``mx.compile`` pays; on a CPU it starts a C++ compiler for every new kernel."""


_CPU = Device("cpu", 512, 256, 256 * _MIB, computes_half=False, fuses=False)


def configure() -> None:
    """Set MLX up for this device. Called before a model is loaded."""
    mx.set_cache_limit(current().cache_bytes)
    if not current().fuses:
        # Libraries compile their activations, and on a CPU that means: run a C++ compiler, and load
        # what it made from /tmp/mlx, where another user may have put something else.
        mx.disable_compile()
    speed = current_gflops()
    if speed is not None and speed < SLOW_GFLOPS:
        log.warning(
            "this CPU multiplies matrices at %.0f GFLOP/s, tens of times slower than with an"
            " optimised BLAS; mlx-serve doctor tells what to do",
            speed,
        )


def current_gflops() -> float | None:
    """How fast matrices are multiplied, where that is not beyond question."""
    return matmul_gflops() if current() is _CPU else None


@functools.cache
def current() -> Device:
    if mx.default_device().type == mx.cpu:
        return _CPU
    name = "metal" if mx.metal.is_available() else "cuda"
    return Device(name, 8192, 2048, 256 * _MIB, computes_half=True, fuses=True)

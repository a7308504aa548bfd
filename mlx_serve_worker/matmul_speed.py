"""How fast this process multiplies matrices on a CPU, which is most of what a model does.

Invariants: it is measured, not concluded from the name of a library: the right one computes at a
fifth of its speed where it mistakes the processor for an older one.
"""

import functools
from time import perf_counter

import mlx.core as mx

_SIDE = 256
_TRIES = 3


@functools.cache
def matmul_gflops() -> float:
    """Half a millisecond with an optimised library, thirty with the one that MLX brings."""
    left, right = mx.ones((_SIDE, _SIDE)), mx.ones((_SIDE, _SIDE))
    mx.eval(left @ right)  # a library starts its threads when it is first used
    return 2 * _SIDE**3 / min(_seconds(left, right) for _ in range(_TRIES)) / 1e9


def _seconds(left: mx.array, right: mx.array) -> float:
    started = perf_counter()
    mx.eval(left @ right)
    return perf_counter() - started

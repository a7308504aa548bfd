"""Multiplications and additions, several at a time, in place of what a CPU computes one by one."""

from collections.abc import Sequence

import mlx.core as mx


def polynomial(x: mx.array, coefficients: Sequence[float]) -> mx.array:
    """The first coefficient stands alone, the last with the highest power of ``x``."""
    total = mx.array(coefficients[-1], dtype=x.dtype)
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total

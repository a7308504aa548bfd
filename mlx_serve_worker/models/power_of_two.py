"""Powers of two by polynomials: what a CPU uses where ``exp`` stands in a formula.

MLX computes ``exp`` on a CPU one number at a time, which is most of what attention or a SiLU costs
there; multiplications and additions go several at a time.

Invariants: errs by 8e-8 of itself besides the rounding of float32; not a number stays that.
"""

import mlx.core as mx

from mlx_serve_worker.models.polynomial import polynomial

# 2**f for -0.5 <= f <= 0.5, the relative error being the least.
_POWER = (
    1.0000000716552204,
    0.6931469670632628,
    0.24022119721165275,
    0.05550713274652056,
    0.00967554147991867,
    0.001327647202819797,
)
_ROUNDING = 1.5 * 2**23
"""A float of this size has no fraction; the integer that is left is in its lowest bits."""
_MANTISSA_BITS = 23
_LEAST_POWER = -126.0
"""The smallest normal float: less would be in vain beside the 1 that is summed or divided with."""
GREATEST_POWER = 126.0


def power_of_two(x: mx.array) -> mx.array:
    """Of float32 numbers that are ``GREATEST_POWER`` or less."""
    x = mx.maximum(x, _LEAST_POWER)
    rounded = x + _ROUNDING
    fraction = x - (rounded - _ROUNDING)
    power = polynomial(fraction, _POWER)
    # The whole part goes where a float keeps its exponent.
    exponent = mx.left_shift(rounded.view(mx.int32), _MANTISSA_BITS)
    return (power.view(mx.int32) + exponent).view(mx.float32)

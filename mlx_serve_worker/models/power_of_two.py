"""Powers of two by polynomials: what a CPU uses where ``exp`` stands in a formula.

MLX computes ``exp`` on a CPU one number at a time, which is most of what attention or a SiLU costs
there; multiplications and additions go several at a time.

Invariants: errs by 2e-9 of itself besides the rounding of float32; not a number stays that.
"""

import mlx.core as mx

# 2**f for -0.5 <= f <= 0.5, the relative error being the least.
_POWER = (
    1.0000000005541692,
    0.6931472057373109,
    0.24022646890615734,
    0.055503287768673866,
    0.009618488958725871,
    0.0013399931259587897,
    0.00015345811670159672,
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
    power = mx.array(_POWER[-1])
    for coefficient in reversed(_POWER[:-1]):
        power = power * fraction + coefficient
    # The whole part goes where a float keeps its exponent.
    exponent = mx.left_shift(rounded.view(mx.int32), _MANTISSA_BITS)
    return (power.view(mx.int32) + exponent).view(mx.float32)

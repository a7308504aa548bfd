"""Attention for a CPU: its softmax takes powers of two from polynomials, not from ``exp``.

MLX computes ``exp`` on a CPU one number at a time, which is most of what attention costs there;
multiplications and additions go several at a time.

Invariants: as exact as MLX's own attention (2**f errs by 2e-9 of itself); what is not finite
in the scores is not finite in the result.
"""

import math

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
"""The smallest normal float. Who is that much less likely than the likeliest counts for nothing."""


def attention_by_polynomials(
    queries: mx.array, keys: mx.array, values: mx.array, *, scale: float, mask: mx.array | None
) -> mx.array:
    """``mx.fast.scaled_dot_product_attention`` in float32; its mask is true where a token is seen,
    or what is added to the scores."""
    if (shared_by := queries.shape[1] // keys.shape[1]) > 1:
        keys, values = (mx.repeat(part, shared_by, axis=1) for part in (keys, values))
    scores = (queries * scale) @ keys.swapaxes(2, 3)
    if mask is not None:
        scores = scores + (mx.where(mask, 0.0, -mx.inf) if mask.dtype == mx.bool_ else mask)
    # Not the queries: what is little below the greatest score keeps more of its digits so.
    below = scores - scores.max(axis=-1, keepdims=True)
    powers = _power_of_two(below * math.log2(math.e))
    return powers @ values / powers.sum(axis=-1, keepdims=True)


def _power_of_two(x: mx.array) -> mx.array:
    """Of float32 numbers that are 0 or less."""
    x = mx.maximum(x, _LEAST_POWER)
    rounded = x + _ROUNDING
    fraction = x - (rounded - _ROUNDING)
    power = mx.array(_POWER[-1])
    for coefficient in reversed(_POWER[:-1]):
        power = power * fraction + coefficient
    # The whole part goes where a float keeps its exponent.
    exponent = mx.left_shift(rounded.view(mx.int32), _MANTISSA_BITS)
    return (power.view(mx.int32) + exponent).view(mx.float32)

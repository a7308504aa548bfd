"""Attention for a CPU: its softmax is made of polynomials.

Invariants: as exact as MLX's own attention; what is not finite in the scores is not finite in the
result.
"""

import math

import mlx.core as mx

from mlx_serve_worker.models.power_of_two import power_of_two


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
    powers = power_of_two(below * math.log2(math.e))
    return powers @ values / powers.sum(axis=-1, keepdims=True)

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
    texts, heads, length, width = queries.shape
    key_heads, places = keys.shape[1:3]
    sharing = heads // key_heads
    # Heads that share their keys stand below each other: one product for all of them.
    rows = (texts, key_heads, sharing * length)
    scores = (queries * scale).reshape(*rows, width) @ keys.swapaxes(2, 3)
    if mask is not None:
        added = mx.where(mask, 0.0, -mx.inf) if mask.dtype == mx.bool_ else mask
        scores = scores.reshape(texts, heads, length, places) + added
        scores = scores.reshape(*rows, places)
    # Not the queries: what is little below the greatest score keeps more of its digits so.
    below = scores - scores.max(axis=-1, keepdims=True)
    powers = power_of_two(below * math.log2(math.e))
    mixed = powers @ values / powers.sum(axis=-1, keepdims=True)
    return mixed.reshape(queries.shape[:3] + values.shape[3:])

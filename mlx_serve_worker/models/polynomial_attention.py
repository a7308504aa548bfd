"""Attention for a CPU: its softmax is made of polynomials, a block of queries at a time.

Each of some twenty operations reads and writes all scores of a block, so they have to stay in the
processor's cache; and what no query of a block sees of the keys is not computed.

Invariants: as exact as MLX's own attention; what is not finite in the scores is not finite in the
result.
"""

import math
from typing import Literal

import mlx.core as mx

from mlx_serve_worker.models.power_of_two import power_of_two

_SCORES = 2**20
"""Of a block: 4 MiB."""
_FEWEST_ROWS = 32
"""Of a block: below, operations cost more by themselves than by what they compute."""
_MOST_CAUSAL_ROWS = 128
"""Of a block: above, too much is computed of what a causal mask hides."""
_BESIDE = 4
"""Blocks in one step of what MLX starts. Were each a step of its own, a lane with a block more than
another would fall behind it at each layer, until one waits for the other. Were all in one, their
scores would not stay in the cache."""

Mask = mx.array | Literal["causal"] | None


def attention_by_polynomials(
    queries: mx.array, keys: mx.array, values: mx.array, *, scale: float, mask: Mask
) -> mx.array:
    """``mx.fast.scaled_dot_product_attention`` in float32; its mask is true where a token is seen,
    or what is added to the scores, or causal: the last query sees all places, each other one less
    than the next.
    """
    texts, heads, length, _ = queries.shape
    places = keys.shape[2]
    is_causal = isinstance(mask, str)
    most = max(_FEWEST_ROWS, _SCORES // (texts * heads * places))
    if is_causal:
        most = min(most, _MOST_CAUSAL_ROWS)
    size = -(-length // -(-length // most))
    blocks: list[mx.array] = []
    for start in range(0, length, size):
        stop = min(start + size, length)
        seen = places - length + stop if is_causal else places
        block = queries[:, :, start:stop]
        if len(blocks) >= _BESIDE:
            (block,) = mx.depends([block], [blocks[-_BESIDE]])
        blocks.append(
            _attention(
                block,
                keys[:, :, :seen],
                values[:, :, :seen],
                scale=scale,
                mask=_of_block(mask, start, stop, seen),
            )
        )
    return mx.concatenate(blocks, axis=2) if len(blocks) > 1 else blocks[0]


def _of_block(mask: Mask, start: int, stop: int, seen: int) -> mx.array | None:
    if mask is None:
        return None
    if isinstance(mask, str):
        return mx.arange(seen - (stop - start), seen)[:, None] >= mx.arange(seen)
    return mask if mask.shape[-2] == 1 else mask[..., start:stop, :]


def _attention(
    queries: mx.array, keys: mx.array, values: mx.array, *, scale: float, mask: mx.array | None
) -> mx.array:
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

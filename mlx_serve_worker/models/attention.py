"""Pieces of attention that several encoders share.

Invariants: inputs are padded on the right; masks are boolean, true where a token may be seen; no
row of a mask is without a true value, so that no kernel has to define what it gives for none.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_serve_worker import device
from mlx_serve_worker.models.polynomial_attention import attention_by_polynomials
from mlx_serve_worker.models.rotary import Rotation, rotate
from mlx_serve_worker.models.token_rows import TokenRows

_FEW_SCORES = 8192
"""For fewer, MLX's own attention takes less than the operations that replace its ``exp``."""
_by_mlx = mx.fast.scaled_dot_product_attention


def by_head(x: mx.array, heads: int) -> mx.array:
    """(texts, tokens, heads * size) to (texts, heads, tokens, size)."""
    batch, length, _ = x.shape
    return x.reshape(batch, length, heads, -1).transpose(0, 2, 1, 3)


def attend(
    queries: mx.array, keys: mx.array, values: mx.array, scale: float, mask: mx.array | None
) -> mx.array:
    """Attention by head, its results side by side again: (texts, tokens, heads * size)."""
    kernel = attention_by_polynomials if _is_worth_it(queries, keys) else _by_mlx
    mixed = kernel(queries, keys, values, scale=scale, mask=mask)
    batch, _, length, _ = mixed.shape
    return mixed.transpose(0, 2, 1, 3).reshape(batch, length, -1)


def any_attention(
    q: mx.array, k: mx.array, v: mx.array, *, scale: float, mask: Any = None, **more: Any
) -> mx.array:
    """In place of MLX's own, for models that are not ours: with all that it can be asked for."""
    is_plain = all(option is None for option in more.values())
    if not is_plain or not _is_worth_it(q, k):
        return _by_mlx(q, k, v, scale=scale, mask=mask, **more)
    if isinstance(mask, mx.array) and mask.dtype == mx.bool_:
        # Padding may see nothing at all, and is to be a number nevertheless.
        mask = mx.where(mask, 0.0, mx.finfo(mx.float32).min)
    return attention_by_polynomials(q, k, v, scale=scale, mask=mask)


def _is_worth_it(queries: mx.array, keys: mx.array) -> bool:
    texts, heads, length, _ = queries.shape
    is_much = texts * heads * length * keys.shape[2] >= _FEW_SCORES
    return is_much and queries.dtype == mx.float32 and not device.current().fuses


class RotaryAttention(nn.Module):
    """Queries, keys and values from one matrix, places told by rotation."""

    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.query_key_value = nn.Linear(width, 3 * width, bias=bias)
        self.output = nn.Linear(width, width, bias=bias)

    def __call__(
        self, x: mx.array, rotation: Rotation, mask: mx.array | None, rows: TokenRows
    ) -> mx.array:
        of_all = rows.unpack(self.query_key_value(x))
        queries, keys, values = (by_head(part, self.heads) for part in mx.split(of_all, 3, axis=-1))
        queries, keys = rotate(queries, rotation), rotate(keys, rotation)
        return self.output(rows.pack(attend(queries, keys, values, self.scale, mask)))


def everywhere(real: mx.array | None) -> mx.array | None:
    """Each token sees all real tokens; ``real`` is (texts, tokens), None if all of them are."""
    return None if real is None else real[:, None, None, :]


def nearby(length: int, reach: int, real: mx.array | None) -> mx.array | None:
    """Each token sees the real tokens up to ``reach`` places away, on both sides."""
    if length <= reach + 1:
        return everywhere(real)
    distances = _distances(length)
    near = mx.abs(distances) <= reach
    if real is None:
        return near
    # Padding far from the text sees at least itself: see the invariants.
    return (near & real[:, None, None, :]) | (distances == 0)


def behind(length: int, reach: int | None) -> mx.array:
    """Each token sees itself and those up to ``reach`` places before it; padding comes after."""
    distances = _distances(length)
    seen = distances >= 0
    return seen if reach is None else seen & (distances <= reach)


def _distances(length: int) -> mx.array:
    """How many places each token (column) lies before each other one (row)."""
    places = mx.arange(length)
    return places[:, None] - places[None, :]

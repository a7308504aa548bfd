"""Inputs of several lengths as the rows of one array: padding on the right, where a mask hides it.

Invariants: what stands there is 0, which is in every vocabulary, whatever the model.
"""

from collections.abc import Sequence

import mlx.core as mx


def padded(rows: Sequence[Sequence[int]]) -> mx.array:
    longest = max(map(len, rows))
    return mx.array([[*row, *[0] * (longest - len(row))] for row in rows])


def padding_mask(lengths: list[int]) -> mx.array | None:
    """True for what is no padding, in the shape (rows, longest); None where there is none."""
    longest = max(lengths)
    if min(lengths) == longest:
        return None
    return mx.arange(longest)[None, :] < mx.array(lengths)[:, None]

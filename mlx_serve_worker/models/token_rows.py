"""What layers compute token by token: rows of the texts with their padding, or on a CPU without it.

Padding costs a layer as much as a token does. Where texts of several lengths share a pass, their
tokens therefore stand one after the other, and only attention sees which belong together.

Invariants: padding is on the right; what stands in its place is of the text that it pads, so that
what is not finite in one text reaches no other.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol, cast

import mlx.core as mx

from mlx_serve_common.models import Manifest
from mlx_serve_worker import device

_WORTH_IT = 0.04
"""A smaller share of padding costs less than to take it out and to put it back in each layer."""
_OF_ATTENTION = 0.25
"""Padding costs so much of a real token where only attention computes it."""


def padding_cost(manifest: Manifest) -> float:
    """What a token of padding costs such a model of a real one: encoders of ours leave it out."""
    leaves_it_out = manifest.implementation == "own" and not device.current().fuses
    return _OF_ATTENTION if leaves_it_out else 1.0


class TokenRows(Protocol):
    def pack(self, x: mx.array) -> mx.array:
        """(texts, tokens, ...) to what is computed token by token."""

    def unpack(self, x: mx.array) -> mx.array:
        """And back."""

    def first(self, x: mx.array) -> mx.array:
        """Of what is computed token by token, the first token of each text: (texts, 1, ...)."""


class Padded:
    def pack(self, x: mx.array) -> mx.array:
        return x

    def unpack(self, x: mx.array) -> mx.array:
        return x

    def first(self, x: mx.array) -> mx.array:
        return x[:, :1]


class _Packed:
    """(tokens of all texts, ...)."""

    def __init__(self, lengths: Sequence[int], width: int) -> None:
        self._kept = mx.array(
            [text * width + at for text, length in enumerate(lengths) for at in range(length)]
        )
        starts = [0, *accumulate(lengths)]
        self._places = mx.array(
            [
                [start + min(at, length - 1) for at in range(width)]
                for start, length in zip(starts, lengths, strict=False)
            ]
        )

    def pack(self, x: mx.array) -> mx.array:
        return x.flatten(0, 1)[self._kept]

    def unpack(self, x: mx.array) -> mx.array:
        return x[self._places]

    def first(self, x: mx.array) -> mx.array:
        return x[self._places[:, :1]]


def token_rows(mask: mx.array | None) -> TokenRows:
    """``mask`` is true for real tokens, in the shape (texts, tokens); None means all."""
    if mask is None or device.current().fuses:
        return Padded()
    lengths = cast(list[int], mask.sum(axis=1).tolist())
    if sum(lengths) > (1 - _WORTH_IT) * mask.size or min(lengths) == 0:
        return Padded()
    return _Packed(lengths, mask.shape[1])

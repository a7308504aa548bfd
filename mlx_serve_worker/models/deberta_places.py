"""Where tokens are, as DeBERTa sees it: by their distance alone, and far ones share a place."""

import math
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn


class Distances(NamedTuple):
    span: int
    """How many places there are on each side."""
    buckets: int
    """How many of both sides there are if far ones share theirs; 0 or less if none does."""
    reach: int
    """The distance from which on all are the same."""

    def place(self, distance: int) -> int:
        last = 2 * self.span - 1
        return min(max(self._bucket(distance) + self.span, 0), last)

    def _bucket(self, distance: int) -> int:
        """The nearest distances for themselves, the others in ever wider ranges."""
        middle = self.buckets // 2
        far = abs(distance)
        if self.buckets < 1 or far <= middle:
            return distance
        share = math.log(far / middle) / math.log((self.reach - 1) / middle)
        place = math.ceil(share * (middle - 1)) + middle
        return place if distance > 0 else -place


class Places(nn.Module):
    """The vectors of all places, which the layers share."""

    def __init__(self, width: int, distances: Distances, epsilon: float | None) -> None:
        super().__init__()
        self.table = nn.Embedding(2 * distances.span, width)
        if epsilon is not None:
            self.norm = nn.LayerNorm(width, eps=epsilon)
        self._distances = distances

    def vectors(self) -> mx.array:
        vectors = self.table(mx.arange(2 * self._distances.span))
        return self.norm(vectors) if "norm" in self else vectors

    def between(self, length: int) -> mx.array:
        """The place of each key (column) as each query (row) sees it."""
        places = [self._distances.place(distance) for distance in range(1 - length, length)]
        at = mx.arange(length)
        return mx.array(places)[at[:, None] - at[None, :] + (length - 1)]

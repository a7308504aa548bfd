"""What a conversation occupies while a model answers it, found by what the model remembers of it.

Invariants: nothing is computed, shapes are known beforehand; what cannot be told is None.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import mlx.core as mx


class Occupied(NamedTuple):
    """Numbers, of whatever size: a conversation of n tokens has at most fixed + n * per_token."""

    per_token: int
    fixed: int


def occupied(parts: Iterable[Any]) -> Occupied | None:
    """By what the model's cache holds after one token."""
    found = [_of(part) for part in parts]
    known = [each for each in found if each is not None]
    if len(known) < len(found):
        return None
    return Occupied(sum(each.per_token for each in known), sum(each.fixed for each in known))


def _of(part: Any) -> Occupied | None:
    from mlx_lm.models import cache

    match part:
        case cache.CacheList():
            return occupied(part.caches)
        case cache.KVCache() | cache.ConcatenateKVCache():
            return Occupied(_of_a_token(part), 0)
        case cache.RotatingKVCache():
            return Occupied(0, part.max_size * _of_a_token(part))
        case cache.ChunkedKVCache():
            return Occupied(0, part.chunk_size * _of_a_token(part))
        case cache.ArraysCache():
            states: Sequence[mx.array | None] = part.cache
            return Occupied(0, sum(state.size for state in states if state is not None))
        case _:
            return None


def _of_a_token(part: Any) -> int:
    if part.keys is None:  # of a layer that looks at another one's
        return 0
    return sum(int(kept.shape[1] * kept.shape[3]) for kept in (part.keys, part.values))

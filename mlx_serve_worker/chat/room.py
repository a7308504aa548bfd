"""How much memory the running answers may still come to need, told before it is used.

Pure. Invariants: what is reserved never exceeds the room; a batch is as long as its longest row,
so every row costs what the longest does.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

# Caches grow in such steps.
STEP = 256
_ENDLESS = 2**40


class _Layer(NamedTuple):
    bytes_per_token: float
    most_tokens: int | None
    """It looks back no further."""


class Cost(NamedTuple):
    """What a conversation occupies."""

    layers: list[_Layer]
    fixed: int

    def of(self, tokens: int) -> int:
        return self.fixed + int(
            sum(
                layer.bytes_per_token * min(_rounded(tokens), layer.most_tokens or _rounded(tokens))
                for layer in self.layers
            )
        )


def cost(cache: list[Any]) -> Cost:
    """From what one token has left in the layers of a model."""
    layers: list[_Layer] = []
    fixed = 0
    for layer in leaves(cache):
        keys = getattr(layer, "keys", None)
        if keys is None:
            fixed += layer.nbytes
        else:
            per_token = layer.nbytes / keys.shape[2]
            layers.append(_Layer(per_token, getattr(layer, "max_size", None)))
    return Cost(layers, fixed)


def leaves(cache: list[Any]) -> Iterator[Any]:
    for layer in cache:
        inner = getattr(layer, "caches", None)
        if inner is None:
            yield layer
        else:
            yield from leaves(inner)


class Room:
    def __init__(self, cost: Cost, capacity: int) -> None:
        self._cost = cost
        self.capacity = capacity
        self._reserved: dict[int, int] = {}
        self.most_tokens = _most_tokens(cost, capacity)
        """Of one answer with its prompt, if it is alone."""

    @property
    def used(self) -> int:
        return self._needed(self._reserved)

    def reserved(self, id: int) -> int:
        return self._reserved[id]

    def reserve(self, id: int, tokens: int) -> bool:
        """Room for that many tokens, prompt and answer together, in place of what ``id`` had."""
        wanted = {**self._reserved, id: tokens}
        if self._needed(wanted) > self.capacity:
            return False
        self._reserved = wanted
        return True

    def release(self, id: int) -> None:
        self._reserved.pop(id, None)

    def _needed(self, reserved: dict[int, int]) -> int:
        return len(reserved) * self._cost.of(max(reserved.values())) if reserved else 0


def _rounded(tokens: int) -> int:
    return -(-tokens // STEP) * STEP


def _most_tokens(cost: Cost, capacity: int) -> int:
    least, most = 0, _ENDLESS // STEP
    while least < most:
        middle = (least + most + 1) // 2
        if cost.of(middle * STEP) <= capacity:
            least = middle
        else:
            most = middle - 1
    return least * STEP

"""What a conversation has left in a model's layers, kept until it goes on.

On a CPU arrays lie in the C library's heap, where what stays between what each pass takes and frees
makes holes, more and more of them. So there a conversation is put apart, into memory of its own
that goes back to the kernel whole.

Invariants: what comes back is the same bit by bit, and whoever gets it may change it.
"""

import copy
import mmap
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import mlx.core as mx
import numpy as np


class Kept(Protocol):
    def again(self) -> list[Any]: ...


class AsItIs:
    def __init__(self, cache: list[Any]) -> None:
        # What is taken out of a batch is no more than a wish before: the whole batch would stay.
        mx.eval([layer.state for layer in cache])
        self._cache = cache

    def again(self) -> list[Any]:
        return copy.deepcopy(self._cache)


class Apart:
    """Of layers of whatever class the arrays are taken out, and nothing else."""

    def __init__(self, cache: list[Any]) -> None:
        arrays = {id(array): array for array in _arrays(cache, set())}
        self.bytes = sum(array.nbytes for array in arrays.values())
        self._copies = _copied(list(arrays.values()), self.bytes)
        self._without_arrays = _replaced(cache, dict(zip(arrays, self._copies, strict=True)))

    def again(self) -> list[Any]:
        arrays = {id(each): each.array() for each in self._copies}
        return _replaced(self._without_arrays, arrays)


class _Copy(NamedTuple):
    bytes: np.ndarray[Any, np.dtype[np.uint8]]
    dtype: mx.Dtype
    shape: tuple[int, ...]

    def array(self) -> mx.array:
        return mx.array(self.bytes).view(self.dtype).reshape(self.shape)


def _copied(arrays: list[mx.array], total: int) -> list[_Copy]:
    # Nothing cannot be mapped.
    own = mmap.mmap(-1, max(1, total), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    place = np.frombuffer(own, np.uint8)
    copies: list[_Copy] = []
    for array in arrays:
        mine, place = np.split(place, [array.nbytes])
        mine[:] = np.asarray(mx.contiguous(array).reshape(-1).view(mx.uint8))
        copies.append(_Copy(mine, array.dtype, array.shape))
    return copies


def _arrays(part: Any, seen: set[int]) -> Iterator[mx.array]:
    """All in it, once or more. One that is overlooked stays where it is, and nothing worse."""
    if isinstance(part, mx.array):
        yield part
    elif id(part) not in seen:
        seen.add(id(part))
        for each in _inside(part):
            yield from _arrays(each, seen)


def _inside(part: Any) -> Iterable[Any]:
    match part:
        case list() | tuple():
            return part
        case dict():
            return part.values()
        case _:
            return getattr(part, "__dict__", {}).values()


def _replaced(cache: list[Any], by_id: dict[int, Any]) -> list[Any]:
    """A copy that has others in the place of some: what is copied already is not copied again."""
    return copy.deepcopy(cache, by_id)

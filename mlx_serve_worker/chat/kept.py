"""What a conversation has left in a model's layers, kept until it goes on.

On a CPU arrays lie in the C library's heap, where what stays between what each pass takes and frees
makes holes, more and more of them. So there a conversation is put apart, into memory of its own
that goes back to the kernel whole.

Invariants: what comes back is the same bit by bit, and whoever gets it may change it.
"""

import copy
import io
import mmap
import pickle  # noqa: TID251 - for its walk through objects of any class: nothing leaves the process
from typing import Any, NamedTuple, Protocol

import mlx.core as mx
import numpy as np


class Kept(Protocol):
    @property
    def bytes(self) -> int: ...

    def again(self) -> list[Any]: ...


class AsItIs:
    def __init__(self, cache: list[Any]) -> None:
        # What is taken out of a batch is no more than a wish before: the whole batch would stay.
        mx.eval([layer.state for layer in cache])
        self._cache = cache
        self.bytes = size(cache)

    def again(self) -> list[Any]:
        return copy.deepcopy(self._cache)


class Apart:
    def __init__(self, cache: list[Any]) -> None:
        without_arrays = io.BytesIO()
        taking = _Taking(without_arrays)
        taking.dump(cache)
        self._without_arrays = without_arrays.getvalue()
        self.bytes = sum(array.nbytes for array in taking.arrays)
        self._arrays = _copied(taking.arrays, self.bytes)

    def again(self) -> list[Any]:
        cache: list[Any] = _Putting(self._without_arrays, self._arrays).load()
        return cache


def apart(cache: list[Any]) -> Kept:
    try:
        return Apart(cache)
    except (pickle.PicklingError, AttributeError, TypeError):
        # A class of somebody's own may lie where it cannot be found by its name.
        return AsItIs(cache)


def size(cache: list[Any]) -> int:
    return sum(layer.nbytes for layer in cache)


class _Copy(NamedTuple):
    bytes: np.ndarray[Any, np.dtype[np.uint8]]
    dtype: mx.Dtype
    shape: tuple[int, ...]

    def array(self) -> mx.array:
        return mx.array(self.bytes).view(self.dtype).reshape(self.shape)


def _copied(arrays: list[mx.array], total: int) -> list[_Copy]:
    if not total:
        return [_Copy(np.empty(0, np.uint8), each.dtype, each.shape) for each in arrays]
    place = np.frombuffer(
        mmap.mmap(-1, total, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8
    )
    copies: list[_Copy] = []
    for array in arrays:
        mine, place = np.split(place, [array.nbytes])
        if array.nbytes:
            mine[:] = np.asarray(mx.contiguous(array).reshape(-1).view(mx.uint8))
        copies.append(_Copy(mine, array.dtype, array.shape))
    return copies


class _Taking(pickle.Pickler):
    """Whatever classes a model's layers have, their arrays are taken out, and nothing else."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.arrays: list[mx.array] = []

    def persistent_id(self, obj: Any) -> int | None:
        if not isinstance(obj, mx.array):
            return None
        self.arrays.append(obj)
        return len(self.arrays) - 1


class _Putting(pickle.Unpickler):
    def __init__(self, without_arrays: bytes, arrays: list[_Copy]) -> None:
        super().__init__(io.BytesIO(without_arrays))
        self._arrays = arrays

    def persistent_load(self, pid: Any) -> mx.array:
        array: mx.array = self._arrays[pid].array()
        return array

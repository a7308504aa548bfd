"""A forward pass on a CPU, in parts that are computed side by side.

Only products of matrices use more than one thread there; softmax, norms and activations are half of
the time and use one. So each core computes a part of the inputs, products included.

Invariants: the answers stand in the order of the inputs; a pass that is too small to be worth it,
or whose BLAS cannot be told how many threads it may use, is computed as one.
"""

import ctypes
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import mlx.core as mx

from mlx_serve_worker import device
from mlx_serve_worker.backend import Prepared

_LEAST_TOKENS = 160
"""Of a part: below, what each pass costs besides its tokens eats up what is gained."""


def side_by_side(
    compute: Callable[[Sequence[Prepared]], mx.array], inputs: Sequence[Prepared]
) -> mx.array:
    """``compute(inputs)``, which gives a row for each input."""
    parts = split([each.length for each in inputs], count())
    if len(parts) == 1:
        return compute(inputs)
    results = []
    for number, part in enumerate(parts):
        with lane(number):
            results.append(compute(inputs[part]))
    evaluate(results)
    return mx.concatenate(results)


def count() -> int:
    """How many lanes there are."""
    blas = None if device.current().fuses else _blas()
    return 1 if blas is None else blas.threads


def lane(number: int) -> Any:
    """What is computed in this context is computed there."""
    return mx.stream(_streams(count())[number])


def evaluate(results: Any) -> None:
    """All of them at once, or the second lane would begin when the first is nearly done."""
    blas = _blas()
    if blas is None:
        mx.eval(results)
        return
    with blas.one_thread_each():
        mx.eval(results)


def split(lengths: Sequence[int], most: int) -> list[slice]:
    """Neighbours together, about as many tokens in each part."""
    total = sum(lengths)
    count = max(1, min(most, len(lengths), total // _LEAST_TOKENS))
    before = [0, *accumulate(lengths)]
    cuts = [_nearest(before, total * part / count) for part in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(cuts) if start < stop]


def _nearest(ascending: Sequence[int], wanted: float) -> int:
    return min(range(len(ascending)), key=lambda at: abs(ascending[at] - wanted))


@functools.cache
def _streams(count: int) -> list[Any]:
    """The same ones for every pass, however many parts it has: each is a thread that stays."""
    return [mx.new_stream(mx.cpu) for _ in range(count)]


class _Blas(NamedTuple):
    set_threads: Callable[[int], object]
    threads: int

    @contextmanager
    def one_thread_each(self) -> Iterator[None]:
        self.set_threads(1)
        try:
            yield
        finally:
            self.set_threads(self.threads)


@functools.cache
def _blas() -> _Blas | None:
    """OpenBLAS, where this process has it."""
    process = ctypes.CDLL(None)
    try:
        threads = process.openblas_get_num_threads()
        return _Blas(process.openblas_set_num_threads, threads)
    except AttributeError:
        return None

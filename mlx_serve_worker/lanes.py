"""A forward pass on a CPU, in parts that are computed side by side.

Only products of matrices use more than one thread there; softmax, norms and activations are half of
the time and use one. So each core computes a part of the inputs, products included.

Invariants: the answers stand in the order of the inputs; a pass that is too small to be worth it,
or whose BLAS cannot be told how many threads it may use, is computed as one; the BLAS has as many
threads afterwards as before.
"""

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import accumulate, pairwise
from typing import Any

import mlx.core as mx

from mlx_serve_worker import device
from mlx_serve_worker.backend import Prepared
from mlx_serve_worker.blas import Blas, blas

_LEAST_TOKENS = 64
"""Of a part: below, what each pass costs besides its tokens eats up what is gained."""
_LEAST_OF_IDLE_CORES = 16
"""The same, where a pass that is computed as one leaves cores idle."""
_FEW_TOKENS = 16
"""Of a pass: threads that share products of so few rows wait for each other longer than they take,
and what they burn meanwhile is missed by whoever answers and asks."""


def side_by_side(
    compute: Callable[[Sequence[Prepared]], mx.array], inputs: Sequence[Prepared]
) -> mx.array:
    """``compute(inputs)``, which gives a row for each input."""
    lengths = [each.length for each in inputs]
    parts = split(lengths, count(), least_tokens())
    if count() > 1 and sum(lengths) < _FEW_TOKENS and not leave_cores_idle():
        result = compute(inputs)
        evaluate(result)
        return result
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
    found = _blas()
    return 1 if found is None else found.lanes


def least_tokens() -> int:
    """Of one part: less is not worth parting."""
    return _LEAST_OF_IDLE_CORES if leave_cores_idle() else _LEAST_TOKENS


def leave_cores_idle() -> bool:
    """Whether passes that are computed as one do."""
    found = _blas()
    return found is not None and found.threads < found.lanes


def lane(number: int) -> Any:
    """What is computed in this context is computed there."""
    return mx.stream(_streams(count())[number])


def evaluate(results: Any) -> None:
    """All of them at once, or the second lane would begin when the first is nearly done; each with
    one thread."""
    found = _blas()
    with nullcontext() if found is None else found.in_lanes():
        mx.eval(results)


def _blas() -> Blas | None:
    return None if device.current().fuses else blas()


def split(lengths: Sequence[int], most: int, least: int) -> list[slice]:
    """Neighbours together, about as many tokens in each part."""
    total = sum(lengths)
    count = max(1, min(most, len(lengths), total // least))
    before = [0, *accumulate(lengths)]
    cuts = [_nearest(before, total * part / count) for part in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(cuts) if start < stop]


def _nearest(ascending: Sequence[int], wanted: float) -> int:
    return min(range(len(ascending)), key=lambda at: abs(ascending[at] - wanted))


@functools.cache
def _streams(count: int) -> list[Any]:
    """The same ones for every pass, however many parts it has: each is a thread that stays."""
    return [mx.new_stream(mx.cpu) for _ in range(count)]

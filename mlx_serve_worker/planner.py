"""Cuts a batch into micro-batches: one forward pass each, similar lengths together.

Invariants: every position appears exactly once; a micro-batch never holds more than ``max_items``
inputs, nor costs more than ``max_tokens`` unless it holds a single input. Of all such ways to cut
the inputs in the order of their lengths, the cheapest is taken.
"""

from collections.abc import Sequence
from itertools import accumulate

_PASSES_PER_BUDGET = 16
"""A forward pass costs about as much, besides its tokens, as this part of its budget: the budget is
chosen (``device.py``) so that more tokens would save no more than a few percent."""


def plan(
    lengths: Sequence[int], *, max_items: int, max_tokens: int, padding_cost: float = 1.0
) -> list[list[int]]:
    """Positions of ``lengths`` grouped for computing, shortest first.

    A token costs 1, one of padding ``padding_cost``.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    ascending = [lengths[position] for position in order]
    starts = _starts(ascending, max_items, max_tokens, padding_cost)
    groups: list[list[int]] = []
    stop = len(order)
    while stop:
        start = starts[stop]
        groups.append(order[start:stop])
        stop = start
    return groups[::-1]


def _starts(
    ascending: Sequence[int], max_items: int, max_tokens: int, padding_cost: float
) -> list[int]:
    """Where the last group starts when the first ``n`` inputs are cut at the least cost."""
    per_pass = max_tokens / _PASSES_PER_BUDGET
    before = [0, *accumulate(ascending)]
    costs = [0.0]
    starts = [0]
    for stop, longest in enumerate(ascending, start=1):
        start = stop - 1
        best, best_start = costs[start] + longest, start
        # A group that pads its shortest input by more than a pass costs is better cut in two.
        for start in range(stop - 2, max(-1, stop - 1 - max_items), -1):
            tokens = before[stop] - before[start]
            whole = tokens + padding_cost * ((stop - start) * longest - tokens)
            if whole > max_tokens or padding_cost * (longest - ascending[start]) > per_pass:
                break
            if (cost := costs[start] + whole) <= best:
                best, best_start = cost, start
        costs.append(best + per_pass)
        starts.append(best_start)
    return starts

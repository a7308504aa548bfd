"""Cuts a batch into micro-batches: one forward pass each, similar lengths together.

Invariants: every position appears exactly once; a micro-batch never holds more than ``max_items``
inputs, nor more than ``max_tokens`` padded tokens unless it holds a single input.
"""

from collections.abc import Sequence


def plan(lengths: Sequence[int], *, max_items: int, max_tokens: int) -> list[list[int]]:
    """Positions of ``lengths`` grouped for computing, shortest first."""
    groups: list[list[int]] = []
    group: list[int] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        # Sorted by length, so the newcomer is the longest and everybody is padded to it.
        padded = (len(group) + 1) * lengths[position]
        if group and (len(group) == max_items or padded > max_tokens):
            groups.append(group)
            group = []
        group.append(position)
    if group:
        groups.append(group)
    return groups

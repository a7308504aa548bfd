"""Who goes first: a person who waits for an answer, or a load that nobody looks at.

Invariants: what the caller says counts; who says nothing is judged by how much it asks for. Both
kinds get on: neither ever has to wait for the end of the other.
"""

from enum import Enum

_MOST_ITEMS = 8
_MOST_CHARACTERS = 4096
"""About one forward pass on a CPU: what is larger delays others more than it is delayed."""


class Priority(Enum):
    INTERACTIVE = "interactive"
    BULK = "bulk"

    # Enum's own is a function in Python, called for each look at a queue.
    __hash__ = object.__hash__


PRIORITIES = tuple(Priority)


def priority_by_size(items: int, characters: int) -> Priority:
    is_small = items <= _MOST_ITEMS and characters <= _MOST_CHARACTERS
    return Priority.INTERACTIVE if is_small else Priority.BULK

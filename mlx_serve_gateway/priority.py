"""Who goes first: a person who waits for an answer, or a load that nobody looks at.

Invariants: what the caller says counts; who says nothing is judged by how much it asks for. All get
on: none ever has to wait for the end of another. Who wants tokens alone waits for no answer at all.
"""

from enum import Enum

_MOST_ITEMS = 8
_MOST_CHARACTERS = 4096
"""About one forward pass on a CPU: what is larger delays others more than it is delayed."""


class Priority(Enum):
    CONVERSION = "conversion"
    """Texts to tokens or back: nothing is computed for it."""
    INTERACTIVE = "interactive"
    BULK = "bulk"

    # Enum's own is a function in Python, called for each look at a queue.
    __hash__ = object.__hash__


PRIORITIES = tuple(Priority)
ASKED = {each.value: each for each in (Priority.INTERACTIVE, Priority.BULK)}
"""What a caller may say."""


def priority_by_size(items: int, characters: int) -> Priority:
    is_small = items <= _MOST_ITEMS and characters <= _MOST_CHARACTERS
    return Priority.INTERACTIVE if is_small else Priority.BULK

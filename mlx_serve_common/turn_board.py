"""A page of memory in which every worker has a line: whether it computes or waits for its turn.

Invariants: a line is written by the worker that has it, and by the gateway while nobody has; what
is read of one in the middle of a change may be half of it, which is why the board may decide who
computes first and nothing else.
"""

import mmap
import os
import sys
import tempfile
from enum import IntEnum
from typing import NamedTuple

LINES = 64
BOARD_FD = 4
"""Where a worker finds the board: it has no name, so nothing stays behind."""
NO_FILE = -1
"""Makes a board that is in this process only."""

_FIELDS = 5
_SIZE = LINES * _FIELDS * 8


class Doing(IntEnum):
    NOTHING = 0
    WAITING = 1
    """For the turn of a bulk load."""
    COMPUTING = 2
    """A micro-batch of one."""
    HURRYING = 3
    """With what somebody waits for."""


# Anything else on a line is the work of a worker gone mad, and means nothing.
_BUSY = {float(doing): doing for doing in Doing if doing}


class Claim(NamedTuple):
    line: int
    doing: Doing
    since: float
    """Of a clock that all processes share."""
    due: float
    """When a bulk load need not give way any more."""


class Told(NamedTuple):
    """What a worker has on its line for the gateway, since it began."""

    waited_s: float
    """Until others had computed."""
    memory_bytes: float
    """What its model and its caches hold."""


class TurnBoard:
    def __init__(self, descriptor: int) -> None:
        self._page = mmap.mmap(descriptor, _SIZE)
        # Eight bytes at a time are read and written in one piece.
        self._words = memoryview(self._page).cast("d")

    def close(self) -> None:
        self._words.release()
        self._page.close()

    def clear(self, line: int) -> None:
        for field in range(_FIELDS):
            self._words[line * _FIELDS + field] = 0

    def say(self, claim: Claim) -> None:
        at = claim.line * _FIELDS
        self._words[at + 1], self._words[at + 2] = claim.since, claim.due
        self._words[at] = claim.doing

    def claims(self) -> list[Claim]:
        """Of all who compute or wait."""
        said = self._words[::_FIELDS].tolist()
        return [
            self._claim(line, doing)
            for line, doing in enumerate(map(_BUSY.get, said))
            if doing is not None
        ]

    def _claim(self, line: int, doing: Doing) -> Claim:
        at = line * _FIELDS
        return Claim(line, doing, self._words[at + 1], self._words[at + 2])

    def tell(self, line: int, told: Told) -> None:
        for field, value in enumerate(told, start=3):
            self._words[line * _FIELDS + field] = value

    def told(self, line: int) -> Told:
        at = line * _FIELDS + 3
        return Told(self._words[at], self._words[at + 1])


def make_board() -> int:
    """The descriptor of an empty one."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("turns")
    else:
        # Not among our sockets: another gateway of the same home that ends removes that folder.
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    # No hole, which on a full disk would end whoever writes there.
    os.write(descriptor, bytes(_SIZE))
    return descriptor

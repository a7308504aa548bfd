"""How many connections there may be at once.

Invariant: when all places are taken, the connection that has been without a request the longest
gives its place to a new one; who is being answered keeps it. So whoever holds many connections
idle keeps nobody else out.
"""

from typing import Generic, Protocol, TypeVar


class Guest(Protocol):
    def leave(self) -> None:
        """Be gone at once."""


G = TypeVar("G", bound=Guest)


class Places(Generic[G]):
    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: set[G] = set()
        self._idle: dict[G, None] = {}

    def take(self, guest: G) -> bool:
        """Whether there was a place for it; it counts as busy."""
        if len(self._taken) >= self._most:
            longest_idle = next(iter(self._idle), None)
            if longest_idle is None:
                return False
            self.give_back(longest_idle)
            longest_idle.leave()
        self._taken.add(guest)
        return True

    def idle(self, guest: G) -> None:
        if guest in self._taken:
            self._idle[guest] = None

    def busy(self, guest: G) -> None:
        self._idle.pop(guest, None)

    def give_back(self, guest: G) -> None:
        self._taken.discard(guest)
        self._idle.pop(guest, None)

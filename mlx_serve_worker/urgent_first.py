"""A queue between two threads, which whoever is in a hurry leaves first.

Invariants: each kind leaves in the order it came, and where both wait one of each in turn, so that
neither waits for the end of the other; a ``take`` that waits returns None only after ``close`` and
after the last that was put.
"""

import threading
from collections import deque
from typing import Generic, Protocol, TypeVar


class Hurried(Protocol):
    @property
    def urgent(self) -> bool:
        """Whether somebody waits for it."""


T = TypeVar("T", bound=Hurried)


class UrgentFirst(Generic[T]):
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._urgent: deque[T] = deque()
        self._others: deque[T] = deque()
        self._was_urgent = False
        """What was taken last."""
        self._closed = False

    def put(self, item: T) -> None:
        with self._changed:
            (self._urgent if item.urgent else self._others).append(item)
            self._changed.notify()

    def close(self) -> None:
        """Nothing further will come."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self, *, wait: bool = True) -> T | None:
        with self._changed:
            while wait and not self.has_news():
                self._changed.wait()
            if self._urgent and not (self._was_urgent and self._others):
                return self._take_urgent()
            self._was_urgent = False
            return self._others.popleft() if self._others else None

    def take_urgent(self) -> T | None:
        with self._changed:
            return self._take_urgent() if self._urgent else None

    def _take_urgent(self) -> T:
        self._was_urgent = True
        return self._urgent.popleft()

    def stays_idle(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        with self._changed:
            return not self._changed.wait_for(self.has_news, seconds)

    def has_news(self) -> bool:
        return bool(self._urgent or self._others or self._closed)

    def has_urgent(self) -> bool:
        return bool(self._urgent)

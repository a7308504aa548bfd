"""A queue between two threads, which whoever is in a hurry leaves first.

Invariants: what is urgent leaves before the rest, and each kind in the order it came; a ``take``
that waits returns None only after ``close`` and after the last that was put.
"""

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class UrgentFirst(Generic[T]):
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._urgent: deque[T] = deque()
        self._others: deque[T] = deque()
        self._closed = False

    def put(self, item: T, *, urgent: bool) -> None:
        with self._changed:
            (self._urgent if urgent else self._others).append(item)
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
            items = self._urgent or self._others
            return items.popleft() if items else None

    def take_urgent(self) -> T | None:
        with self._changed:
            return self._urgent.popleft() if self._urgent else None

    def stays_idle(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        with self._changed:
            return not self._changed.wait_for(self.has_news, seconds)

    def has_news(self) -> bool:
        return bool(self._urgent or self._others or self._closed)

    def has_urgent(self) -> bool:
        return bool(self._urgent)

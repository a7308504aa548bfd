"""Which items a worker holds, and whose callers have left.

Invariants: a cancellation is remembered only while its item is held; the threads that add, ask and
settle need not know of each other.
"""

import threading
from collections.abc import Iterable, Sequence


class HeldItems:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: set[int] = set()
        self._cancelled: set[int] = set()

    def add(self, ids: Iterable[int]) -> None:
        with self._lock:
            self._held.update(ids)

    def cancel(self, ids: Sequence[int]) -> None:
        with self._lock:
            self._cancelled.update(self._held.intersection(ids))

    def is_cancelled(self, id: int) -> bool:
        return id in self._cancelled

    def settle(self, ids: Sequence[int]) -> None:
        """These are answered."""
        with self._lock:
            self._held.difference_update(ids)
            self._cancelled.difference_update(ids)

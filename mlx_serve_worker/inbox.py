"""What the I/O thread hands to the compute thread: batches, cancellations, the wish to stop.

Invariants: urgent batches leave before the others, and each kind in the order they came; a ``take``
that waits returns None only after ``close`` and after the last batch; a cancellation is remembered
only while its item is held here.
"""

import threading
from collections import deque

from mlx_serve_common.wire import Batch


class Inbox:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._urgent: deque[Batch] = deque()
        self._others: deque[Batch] = deque()
        self._held: set[int] = set()
        self._cancelled: set[int] = set()
        self._closed = False

    def put(self, batch: Batch) -> None:
        with self._changed:
            (self._urgent if batch.urgent else self._others).append(batch)
            self._held.update(id for part in batch.parts for id in part.ids)
            self._changed.notify()

    def cancel(self, ids: list[int]) -> None:
        with self._changed:
            self._cancelled.update(self._held.intersection(ids))

    def close(self) -> None:
        """No further batch will come."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self, *, wait: bool = True) -> Batch | None:
        with self._changed:
            while wait and not self.has_news():
                self._changed.wait()
            batches = self._urgent or self._others
            return batches.popleft() if batches else None

    def stays_idle(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        with self._changed:
            return not self._changed.wait_for(self.has_news, seconds)

    def has_news(self) -> bool:
        return bool(self._urgent or self._others or self._closed)

    def take_urgent(self) -> Batch | None:
        with self._changed:
            return self._urgent.popleft() if self._urgent else None

    def has_urgent(self) -> bool:
        return bool(self._urgent)

    def is_cancelled(self, id: int) -> bool:
        return id in self._cancelled

    def settle(self, ids: list[int]) -> None:
        """These items are answered."""
        with self._changed:
            self._held.difference_update(ids)
            self._cancelled.difference_update(ids)

"""What has happened lately, for whoever watches: the last events, and each one that comes.

Invariants: bounded; a watcher that is too slow misses the oldest, which the numbers show.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import msgspec

from mlx_serve_gateway.server_events import Event

_KEPT = 256


class Told(msgspec.Struct, frozen=True):
    number: int
    """Counts up by one."""
    at: datetime
    what: Event


class EventLog:
    def __init__(self) -> None:
        self._events: deque[Told] = deque(maxlen=_KEPT)
        self._next = 1
        self._changed = asyncio.Event()
        self._has_ended = False

    def tell(self, event: Event) -> None:
        self._events.append(Told(self._next, datetime.now(UTC), event))
        self._next += 1
        self._wake()

    def end(self) -> None:
        """Nothing follows: whoever watches has heard all."""
        self._has_ended = True
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def since(self, number: int) -> list[Told]:
        """Those after that one which are still known."""
        return [told for told in self._events if told.number > number]

    async def watch(self, after: int) -> AsyncGenerator[Told]:
        """The events after that number, then each one when it happens, until the end."""
        while True:
            changed, is_over = self._changed, self._has_ended
            for told in self.since(after):
                after = told.number
                yield told
            if is_over:
                return
            await changed.wait()

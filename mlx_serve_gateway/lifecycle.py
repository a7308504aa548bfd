"""Whether the server takes requests, how many it is working on, and who it is.

Invariants: draining is never taken back; ``wait_idle`` returns when the last answer is sent.
"""

import asyncio
from collections.abc import Callable


class Lifecycle:
    def __init__(self, instance: str, now: Callable[[], float]) -> None:
        self.instance = instance
        self.in_flight = 0
        self.is_draining = False
        self.preload_errors: dict[str, str] = {}
        """Models that were to be preloaded and are not known."""
        self._now = now
        self._started_at = now()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def uptime_s(self) -> float:
        return self._now() - self._started_at

    def enter(self) -> None:
        self.in_flight += 1
        self._idle.clear()

    def leave(self) -> None:
        self.in_flight -= 1
        if self.in_flight == 0:
            self._idle.set()

    async def wait_idle(self) -> None:
        await self._idle.wait()

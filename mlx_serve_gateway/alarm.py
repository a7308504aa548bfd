"""One timer for everything that a moment may bring; none runs when nothing is due."""

import asyncio
from collections.abc import Callable


class Alarm:
    def __init__(self, now: Callable[[], float], ring: Callable[[], None]) -> None:
        self._now = now
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def set(self, due: float) -> None:
        """Ring at ``due`` or before; whoever answers sets it again for what is still to come."""
        if self._timer is not None and self._due <= due:
            return
        self.clear()
        self._due = due
        delay_s = max(0.0, due - self._now())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_due)

    def clear(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_due(self) -> None:
        self._timer = None
        self._ring()

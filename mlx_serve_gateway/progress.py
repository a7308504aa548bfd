"""Notices a worker that holds items and gets no further with them.

Invariants: no timer runs while nothing is outstanding; every sign of progress starts the time anew,
and so does a time in which we ourselves stood still: the answers may have come, and lie unread.
"""

import asyncio
from collections.abc import Callable

_LATE_S = 1.0


class Progress:
    def __init__(
        self, deadline_s: float, now: Callable[[], float], on_stuck: Callable[[], None]
    ) -> None:
        self.outstanding = 0
        self._deadline_s = deadline_s
        self._now = now
        self._on_stuck = on_stuck
        self._moved_at = 0.0
        self._look_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def sent(self, items: int) -> None:
        if self.outstanding == 0:
            self._moved_at = self._now()
        self.outstanding += items
        if self._timer is None:
            self._arm(self._deadline_s)

    def moved(self, answered: int) -> None:
        """Something was computed, and so many items are answered with it."""
        self.outstanding -= answered
        self._moved_at = self._now()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, delay_s: float) -> None:
        self._look_at = self._now() + delay_s
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self.outstanding <= 0:
            return
        now = self._now()
        if now > self._look_at + _LATE_S:
            self._moved_at = now
        left = self._moved_at + self._deadline_s - now
        if left > 0:
            self._arm(left)
        else:
            self._on_stuck()

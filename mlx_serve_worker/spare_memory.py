"""When memory that nothing needs any more is given back: in a rest, and now and then at work.

What stays for long lies between what is soon freed, so that after an hour there would be holes as
large as a few passes. Whoever asks next pays for it with some tens of milliseconds at most; at work
each pass makes use of other holes, so that they would be full again long before the next minute.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any

from mlx_serve_worker.urgent_first import UrgentFirst

_REST_S = 10.0
_AT_WORK_S = 15.0


class SpareMemory:
    def __init__(self, give_back: Callable[[], None], now: Callable[[], float] = monotonic) -> None:
        self._give_back = give_back
        self._now = now
        self._given_at = now()
        self._has_worked = False

    def worked(self) -> None:
        """Between two passes."""
        self._has_worked = True
        if self._now() - self._given_at >= _AT_WORK_S:
            self._give()

    def rest(self, queue: UrgentFirst[Any]) -> None:
        """Before work is waited for."""
        if self._has_worked and queue.stays_idle(_REST_S):
            self._give()

    def _give(self) -> None:
        self._give_back()
        self._given_at = self._now()
        self._has_worked = False

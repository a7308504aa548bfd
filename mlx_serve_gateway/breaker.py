"""Stops a model that keeps dying from being started again and again. Pure, on a given clock.

Invariants: opens on the third death within a minute that no answer came between; whoever records
deaths leaves out those that an input is known to have caused. So who kills a model that works, by
hand or with a new poison each time, cannot have it refused to everybody. It heals by itself: after
the pause the next request starts the model, and until an answer has come through one more death is
enough to open it again, for twice as long as before and at most ten minutes.
"""

from collections import deque

DEATHS = 3
WINDOW_S = 60.0
FIRST_PAUSE_S = 30.0
LONGEST_PAUSE_S = 600.0


class Breaker:
    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=DEATHS)
        self._pause_s = FIRST_PAUSE_S
        self._open_until = float("-inf")
        self._on_probation = False

    def record_death(self, now: float) -> None:
        self._deaths.append(now)
        too_many = len(self._deaths) == DEATHS and now - self._deaths[0] <= WINDOW_S
        if too_many or self._on_probation:
            self._deaths.clear()
            self._on_probation = True
            self._open_until = now + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def record_success(self) -> None:
        self._deaths.clear()
        self._on_probation = False
        self._pause_s = FIRST_PAUSE_S

    def open_for(self, now: float) -> float | None:
        """Seconds until the model may be tried again; None when it may be now."""
        return self._open_until - now if now < self._open_until else None

"""How far a worker that loads has come, as it says itself. Pure: the clock is the caller's.

Invariants: how long it has not moved is known at every moment, so that one that is stuck is seen;
what is told to watchers is bounded, and nothing is of a load that is over in a moment.
"""

import msgspec

from mlx_serve_common.wire import Loading

_TOLD_AFTER_S = 2.0
_TOLD_EVERY_S = 5.0


class LoadState(msgspec.Struct, frozen=True, kw_only=True):
    stage: str
    """``process`` until it says something; ``libraries``, ``files``, ``weights``."""
    done: float | None
    """Share of the weights that are read, by bytes."""
    for_s: float
    """Since it was started."""
    still_s: float
    """Since it last moved on."""


class LoadProgress:
    def __init__(self, now: float) -> None:
        self._began = self._moved = self._told = now
        self._last = Loading("process", None)

    def hear(self, said: Loading, now: float) -> bool:
        """Whether watchers are to be told."""
        if said != self._last:
            self._last, self._moved = said, now
        if now - self._began < _TOLD_AFTER_S:
            return False
        has_waited = self._told == self._began or now - self._told >= _TOLD_EVERY_S
        if has_waited:
            self._told = now
        return has_waited

    def state(self, now: float) -> LoadState:
        return LoadState(
            stage=self._last.stage,
            done=self._last.done,
            for_s=round(now - self._began, 3),
            still_s=round(now - self._moved, 3),
        )

"""How far the loading of a model is, told by whoever reads it to whoever listens on this thread.

Invariants: nobody has to listen; stages are told when they begin, and within one no more often
than ``_STEP_S``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic

from mlx_serve_common.wire import Loading, LoadStage

_STEP_S = 0.25


class _Teller:
    def __init__(self, tell: Callable[[Loading], None], clock: Callable[[], float]) -> None:
        self._tell = tell
        self._clock = clock
        self._stage: LoadStage | None = None
        self._told_at = 0.0

    def tell(self, stage: LoadStage, done: float | None) -> None:
        now = self._clock()
        if stage == self._stage and now - self._told_at < _STEP_S:
            return
        self._stage, self._told_at = stage, now
        self._tell(Loading(stage, done))


_teller: ContextVar[_Teller | None] = ContextVar("teller", default=None)


@contextmanager
def listening(
    tell: Callable[[Loading], None], clock: Callable[[], float] = monotonic
) -> Iterator[None]:
    token = _teller.set(_Teller(tell, clock))
    try:
        yield
    finally:
        _teller.reset(token)


def tell(stage: LoadStage, done: float | None = None) -> None:
    """``done`` is a share of 1."""
    if (teller := _teller.get()) is not None:
        teller.tell(stage, done)

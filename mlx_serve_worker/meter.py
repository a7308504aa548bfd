"""How far a download is: told often enough to be watched, seldom enough to be cheap.

Invariants: at most ten events a second, besides those for large files and for the end; the rate is
that of the network, whatever was found on the disk.
"""

from collections import deque
from collections.abc import Callable
from time import monotonic

from mlx_serve_common.events import JobEvent

Report = Callable[[JobEvent], None]

_STEP_S = 0.1
_WINDOW_S = 10.0
_SHORTEST_S = 0.5
_LARGE_BYTES = 10**6


class Meter:
    def __init__(self, report: Report, digest: str, clock: Callable[[], float] = monotonic) -> None:
        self._report = report
        self._digest = digest
        self._total = 0
        self._clock = clock
        self._completed = 0
        self._received = 0
        self._file = ""
        self._told_at = clock() - _STEP_S
        self._samples = deque([(clock(), 0)])
        """When how much had been received, as far back as the rate looks."""

    def expect(self, total: int) -> None:
        self._total = total

    def begin(self, file: str, size: int) -> None:
        self._file = file
        if size >= _LARGE_BYTES:
            self.tell()  # it may be a while until its first bytes come
        else:
            self._tell_in_time()

    def found(self, count: int) -> None:
        """Bytes that were here already; negative for those that turned out to be useless."""
        self._completed += count
        self._tell_in_time()

    def received(self, count: int) -> None:
        self._completed += count
        self._received += count
        self._tell_in_time()

    def tell(self) -> None:
        self._told_at = at = self._clock()
        self._samples.append((at, self._received))
        while at - self._samples[0][0] > _WINDOW_S:
            self._samples.popleft()
        self._report(
            JobEvent(
                status="downloading",
                detail=self._file,
                digest=self._digest,
                total=self._total,
                completed=self._completed,
                rate=self._rate(),
            )
        )

    def _tell_in_time(self) -> None:
        if self._clock() - self._told_at >= _STEP_S:
            self.tell()

    def _rate(self) -> int | None:
        (begin, before), (end, after) = self._samples[0], self._samples[-1]
        return None if end - begin < _SHORTEST_S else round((after - before) / (end - begin))

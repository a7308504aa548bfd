"""The lines of POST /api/pull as the events that a job of this machine would tell.

Pure: lines and moments to events. What is unknown of a line is left out.
"""

from collections import deque
from typing import get_args

import msgspec

from mlx_serve_common.events import JobEvent, JobStatus

_OF_LATE_S = 5.0
_STATUSES = frozenset(get_args(JobStatus))


class PullLine(msgspec.Struct, frozen=True):
    status: str = ""
    total: int | None = None
    completed: int | None = None
    error: str | None = None
    code: str = ""


class PullLines:
    """``model`` is what was asked for; the lines do not name it."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._of: tuple[str, int | None] | None = None
        self._seen: deque[tuple[float, int]] = deque()

    def event(self, line: PullLine, now: float) -> JobEvent:
        status, detail = self._stage(line.status)
        return JobEvent(
            status=status,
            detail=detail,
            total=line.total,
            completed=line.completed,
            rate=self._rate(line, now),
        )

    def _stage(self, told: str) -> tuple[JobStatus | None, str | None]:
        if told == "pulling manifest":
            return "resolving", self._model
        if told.startswith("pulling "):
            return "downloading", told.removeprefix("pulling ")
        if told == "success":
            return "success", self._model
        stage, _, detail = told.partition(": ")
        return (stage, detail or None) if stage in _STATUSES else (None, None)  # type: ignore[return-value]

    def _rate(self, line: PullLine, now: float) -> int | None:
        """Bytes per second, of late."""
        if (line.status, line.total) != self._of:
            self._of = line.status, line.total
            self._seen.clear()
        self._seen.append((now, line.completed or 0))
        while now - self._seen[0][0] > _OF_LATE_S:
            self._seen.popleft()
        since, before = self._seen[0]
        if now == since:
            return None
        return int(((line.completed or 0) - before) / (now - since))

"""The one-shot jobs of this gateway, and what is known of them.

Invariants: one job at a time works on a model's name, and whoever asks for the same joins it; a job
ends in exactly one last event, success or error; it outlives whoever asked for it, and ends with
the server.
"""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextvars import Context
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import msgspec

from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.events import JobEvent
from mlx_serve_common.logs import escape
from mlx_serve_common.names import clash_key
from mlx_serve_gateway.job_process import JobKind, OnEvent, is_last
from mlx_serve_gateway.refusals import shutting_down, too_many_jobs, worked_on
from mlx_serve_gateway.server_events import JobEnded, JobStarted, Tell

log = logging.getLogger(__name__)

MAX_RUNNING = 8
MAX_ENDED = 32
_MAX_STAGES = 1024

Run = Callable[[JobKind, Sequence[str], OnEvent, asyncio.Event], Awaitable[JobEvent]]
"""Does one job and tells its last event; told to stop by the last argument."""


class JobRequest(msgspec.Struct, frozen=True):
    """What is to be done; two that are equal are one."""

    kind: JobKind
    model: str
    """The name that the model has in the end."""
    arguments: tuple[str, ...]


class Job:
    """One run: its events so far, and whoever follows them."""

    def __init__(self, id: int, request: JobRequest) -> None:
        self.id = id
        self.request = request
        self.started_at = datetime.now(UTC)
        self.ended_at: datetime | None = None
        self.last: JobEvent | None = None
        """Once the job has ended: success, or the error."""
        self._stages: dict[tuple[str | None, str | None], tuple[int, JobEvent]] = {}
        """The latest event of each stage with its number, in the order of the numbers."""
        self._numbers = itertools.count(1)
        self._changed = asyncio.Event()

    @property
    def progress(self) -> JobEvent | None:
        """What it is at, or what it was at when it ended."""
        events = [event for _, event in self._stages.values() if not is_last(event)]
        return events[-1] if events else None

    def publish(self, event: JobEvent) -> None:
        stage = (event.status, event.digest or event.detail)
        self._stages.pop(stage, None)
        self._stages[stage] = (next(self._numbers), event)
        if len(self._stages) > _MAX_STAGES:
            del self._stages[next(iter(self._stages))]
        if is_last(event):
            self.last = event
            self.ended_at = datetime.now(UTC)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def follow(self) -> AsyncIterator[JobEvent]:
        """The latest event of every stage so far, then each one that comes, until the last.

        A listener that is slow misses steps, never a stage: nothing is kept for it.
        """
        seen = 0
        while True:
            changed = self._changed
            for number, event in self._since(seen):
                seen = number
                yield event
                if is_last(event):
                    return
            await changed.wait()

    async def ended(self) -> JobEvent:
        while self.last is None:
            await self._changed.wait()
        return self.last

    def _since(self, seen: int) -> list[tuple[int, JobEvent]]:
        newest_first = reversed(self._stages.values())
        return list(itertools.takewhile(lambda entry: entry[0] > seen, newest_first))[::-1]


class Jobs:
    """An async context manager: leaving it ends every job."""

    def __init__(self, run: Run, tell: Tell = lambda event: None) -> None:
        self._run = run
        self._tell = tell
        self._tasks = asyncio.TaskGroup()
        self._running: dict[str, Job] = {}
        self._ended: deque[Job] = deque(maxlen=MAX_ENDED)
        self._ids = itertools.count(1)
        self._stopping = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.request_stop()
        await self._tasks.__aexit__(kind, error, traceback)

    def request_stop(self) -> None:
        """Tell every job to end in order; no other is started."""
        self._stopping.set()

    def start(self, request: JobRequest) -> Job:
        """The job that does this, which may be running already."""
        if self._stopping.is_set():
            raise shutting_down()
        key = clash_key(request.model)
        if (running := self._running.get(key)) is not None:
            if running.request != request:
                raise worked_on(request.model)
            return running
        if len(self._running) >= MAX_RUNNING:
            raise too_many_jobs(MAX_RUNNING)
        job = self._running[key] = Job(next(self._ids), request)
        # A context of its own: what it logs does not belong to the request that started it.
        self._tasks.create_task(self._see_through(job, key), context=Context())
        return job

    def is_working_on(self, model: str) -> bool:
        return clash_key(model) in self._running

    def all(self) -> list[Job]:
        """Those that run and the last ones that ended, the newest first."""
        return sorted((*self._running.values(), *self._ended), key=lambda job: -job.id)

    async def _see_through(self, job: Job, key: str) -> None:
        name = f"{job.request.kind} {escape(job.request.model)}"
        log.info("job %d (%s) starts", job.id, name)
        self._tell(JobStarted(model=job.request.model, job=job.request.kind))
        last = JobEvent(error="the job was broken off", code=ErrorCode.INTERNAL_ERROR)
        try:
            request = job.request
            last = await self._run(request.kind, request.arguments, job.publish, self._stopping)
        finally:
            # First, so that whoever hears of the end can start another.
            del self._running[key]
            self._ended.append(job)
            job.publish(last)
        log.info("job %d (%s) ended: %s", job.id, name, escape(last.error or "success"))
        self._tell(JobEnded(model=job.request.model, job=job.request.kind, error=last.error))

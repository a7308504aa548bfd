"""What the pool and a worker handle say to each other. Plain data and protocols, no process."""

from enum import Enum
from typing import Protocol

import msgspec

from mlx_serve_common.errors import ServeError
from mlx_serve_common.wire import Batch, Note, Progress, Ready, Result


class StopReason(Enum):
    """Why a worker was asked to leave."""

    EVICTED = "evicted to make room"
    IDLE = "idle for longer than its time to live"
    REQUESTED = "unloaded on request"
    SHUTDOWN = "server shutdown"


class Failure(Enum):
    """Why a worker left without being asked."""

    NOT_STARTED = "could not be started"
    UNLOADABLE = "could not be loaded"
    START_TIMEOUT = "did not become ready in time"
    CRASHED = "crashed"
    HUNG = "made no progress"
    STOPPED = "was stopped from outside"
    BROKE_PROTOCOL = "sent something that is not a message"


class ExitReport(msgspec.Struct, frozen=True):
    """How a worker ended."""

    reason: StopReason | Failure
    error: ServeError | None = None
    """Set when starting it again would end the same way: what to tell those who wait."""
    exit_code: int | None = None


class Observer(Protocol):
    """Who is told what the worker does."""

    def on_ready(self, ready: Ready) -> None: ...

    def on_note(self, note: Note) -> None: ...

    def on_result(self, result: Result) -> None: ...

    def on_progress(self, progress: Progress) -> None: ...


class Worker(Protocol):
    """One worker process, as those see it who give it work."""

    @property
    def pid(self) -> int | None: ...

    async def run(self) -> ExitReport: ...

    def submit(self, batch: Batch) -> None: ...

    def cancel(self, ids: list[int]) -> None: ...

    def request_stop(self, reason: StopReason) -> None: ...

"""One job as a process: started, heard out, ended when the server ends.

Invariants: the process is reaped when ``run_job`` returns, and what it returns is one last event
that agrees with how the process ended; everything before it went to ``on_event``.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Literal

import msgspec

from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.events import JobEvent, decode_event
from mlx_serve_common.undecodable import UNDECODABLE
from mlx_serve_gateway.child import Child
from mlx_serve_gateway.output import Output
from mlx_serve_gateway.sentinel import Sentinel

log = logging.getLogger(__name__)

PROGRAM = (sys.executable, "-P", "-m", "mlx_serve_worker.job")
LONGEST_LINE = 64 * 1024
# A job that was told to stop puts its files in order first.
END_S = 5.0
# How long what a job said before it ended may still be on its way.
_LAST_WORDS_S = 0.5

JobKind = Literal["pull", "quantize"]
OnEvent = Callable[[JobEvent], None]


class JobHost(msgspec.Struct, frozen=True, kw_only=True):
    """What every job of this gateway is started with."""

    env: Mapping[JobKind, Mapping[str, str]]
    sentinel: Sentinel
    now: Callable[[], float]
    program: Sequence[str]


def is_last(event: JobEvent) -> bool:
    return event.status == "success" or event.error is not None


async def run_job(
    host: JobHost,
    kind: JobKind,
    arguments: Sequence[str],
    on_event: OnEvent,
    stopping: asyncio.Event,
) -> JobEvent:
    """The last event of the job; ``stopping`` ends it early."""
    with ExitStack() as resources:
        try:
            child, events = _start(host, kind, arguments, on_event, resources)
        except OSError as error:
            log.error("a job could not be started: %s", error)
            return JobEvent(
                error="the job's process could not be started; the server's log says why",
                code=ErrorCode.MODEL_UNAVAILABLE,
            )
        try:
            is_stopped = await _live(child, events, stopping)
            lingers = child.is_running
        finally:
            child.kill()
            # The process dies whatever happens to us; only its zombie would stay behind.
            await asyncio.shield(child.exited)
    # What has said its last word and does not end was killed for no other reason.
    exit_code = 0 if lingers and events.last is not None else child.exited.result()
    return _last_event(events.last, exit_code, is_stopped)


def _start(
    host: JobHost,
    kind: JobKind,
    arguments: Sequence[str],
    on_event: OnEvent,
    resources: ExitStack,
) -> tuple[Child, "_EventPipe"]:
    """The process and what it says; OSError if there is no room for it."""
    output = Output(kind, host.now)
    resources.callback(output.close)
    try:
        events = _EventPipe(on_event)
        resources.callback(events.close)
        try:
            child = Child(
                [*host.program, kind, *arguments],
                host.env[kind],
                {1: events.write_end, 2: output.write_end},
                before_reap=host.sentinel.forget,
            )
        finally:
            events.close_write_end()
    finally:
        output.close_write_end()
    host.sentinel.watch(child.pid)
    return child, events


async def _live(child: Child, events: "_EventPipe", stopping: asyncio.Event) -> bool:
    """Until the process has ended by itself or has had its time to; whether it was told to."""
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        waited_for = (child.exited, events.ended, stopped)
        await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        is_stopped = stopped.done() and not child.exited.done()
        if is_stopped:
            child.terminate()
        await asyncio.wait((child.exited,), timeout=END_S)
        await asyncio.wait((events.ended,), timeout=_LAST_WORDS_S)
        return is_stopped
    finally:
        stopped.cancel()


def _last_event(said: JobEvent | None, exit_code: int, is_stopped: bool) -> JobEvent:
    if said is not None and said.error is None and exit_code == 0:
        return said
    if is_stopped:
        return JobEvent(
            error="the server is shutting down; ask for it again later",
            code=ErrorCode.SHUTTING_DOWN,
        )
    if said is not None and said.error is not None and exit_code in (0, 1):
        code = said.code
        # Somebody else ended it: that is no fault of whoever waits here.
        return said if code not in (None, ErrorCode.CANCELLED) else _failed(said.error)
    log.error("a job broke down with exit code %d", exit_code)
    return _failed(f"the job broke down (exit code {exit_code}); the server's log has more")


def _failed(message: str) -> JobEvent:
    return JobEvent(error=message, code=ErrorCode.WORKER_CRASHED)


class _EventPipe:
    """The read end of the pipe that is a job's stdout."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._partial = b""
        self.last: JobEvent | None = None
        """What it said last, kept until the process has ended accordingly."""
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Nothing more is to be expected."""
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._loop.add_reader(self._read_end, self._on_readable)

    def close_write_end(self) -> None:
        os.close(self.write_end)

    def close(self) -> None:
        self._loop.remove_reader(self._read_end)
        os.close(self._read_end)

    def _on_readable(self) -> None:
        try:
            data = os.read(self._read_end, LONGEST_LINE)
        except BlockingIOError:
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._on_line(line)
        if not data or self.last is not None or len(self._partial) > LONGEST_LINE:
            self._loop.remove_reader(self._read_end)
            if not self.ended.done():
                self.ended.set_result(None)

    def _on_line(self, line: bytes) -> None:
        try:
            event = decode_event(line)
        except UNDECODABLE:
            log.warning("a job said what is no event: %r", line[:200])
            return
        if is_last(event):
            self.last = event
        elif self.last is None:
            self._on_event(event)

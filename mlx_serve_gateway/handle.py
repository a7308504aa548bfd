"""One worker process, from its start to its end: never restarted, its socket never reused.

    STARTING ──► READY ──► DRAINING ──► STOPPED        (forward only)

Invariants: ``run`` is the only writer of ``state``, and returns when the process has been reaped;
how it ended is data, an ``ExitReport``. A worker is hung when it holds items and has answered none
of them for ``batch_timeout_s``: progress counts, not a heartbeat.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import ExitStack
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgspec
import zmq

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.launch import Allowance, LaunchSpec, Turns
from mlx_serve_common.models import InstalledModel, ModelKind
from mlx_serve_common.undecodable import UNDECODABLE
from mlx_serve_common.wire import (
    PROTOCOL,
    Batch,
    BatchBudget,
    Cancel,
    Drain,
    Fatal,
    FromWorker,
    Generated,
    Loading,
    Prefilled,
    Ready,
    decode_from_worker,
    encode,
    settled,
)
from mlx_serve_gateway.channel import Channel
from mlx_serve_gateway.child import Child
from mlx_serve_gateway.process_identity import is_stopped
from mlx_serve_gateway.progress import Progress
from mlx_serve_gateway.refusals import not_loaded_in_time, process_not_started
from mlx_serve_gateway.spare import Spare
from mlx_serve_gateway.turn_lines import TurnLines
from mlx_serve_gateway.worker import ExitReport, Failure, Observer, StopReason
from mlx_serve_gateway.worker_process import Surroundings, WorkerProcess

log = logging.getLogger(__name__)

# How long we wait for the last frames of a process that ended by its own decision.
_LAST_WORDS_S = 0.5
# No wait for a turn may look like a worker that hangs, however short the deadline for these is.
_MOST_PATIENCE_S = 2.0
_WAITS_PER_DEADLINE = 4


class WorkerState(IntEnum):
    STARTING = 0
    READY = 1
    DRAINING = 2
    STOPPED = 3


class Timeouts(msgspec.Struct, frozen=True):
    load_s: float = 300
    batch_s: float = 30
    stop_s: float = 5


class WorkerHost(msgspec.Struct, frozen=True, kw_only=True):
    """What every worker of this gateway is started with."""

    context: "zmq.Context[zmq.Socket[bytes]]"
    run_dir: Path
    surroundings: Surroundings
    spare: Spare
    max_batch_items: int
    max_batch_tokens: int | None
    calibrate: bool
    turns: TurnLines
    computing_workers: int | None
    timeouts: Timeouts
    now: Callable[[], float]
    custom_models: str | None = None


class WorkerHandle:
    def __init__(
        self,
        model: InstalledModel,
        observer: Observer,
        host: WorkerHost,
        allowance: Allowance | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.model = model
        self.state = WorkerState.STARTING
        self.pid: int | None = None
        self._observer = observer
        self._host = host
        self._allowance = allowance or Allowance()
        self._ready: asyncio.Future[Ready] = loop.create_future()
        self._stop: asyncio.Future[StopReason] = loop.create_future()
        self._fault: asyncio.Future[Failure] = loop.create_future()
        self._progress = Progress(host.timeouts.batch_s, host.now, self._on_no_progress)
        self._last_words: Fatal | None = None
        self._frame_arrived = asyncio.Event()
        self._channel: Channel
        self._child: Child

    # --- asked from outside ----------------------------------------------------------------------

    def request_stop(self, reason: StopReason) -> None:
        if not self._stop.done():
            self._stop.set_result(reason)

    def submit(self, batch: Batch) -> None:
        self._progress.sent(sum(len(part.ids) for part in batch.parts))
        self._send(batch)

    def cancel(self, ids: list[int]) -> None:
        if self.state in (WorkerState.READY, WorkerState.DRAINING):
            self._send(Cancel(ids))

    # --- the life --------------------------------------------------------------------------------

    async def run(self) -> ExitReport:
        with ExitStack() as resources:
            try:
                self._start(resources)
            except OSError as error:
                log.error("a worker of %s could not be started: %s", self.model.name, error)
                return ExitReport(Failure.NOT_STARTED, process_not_started())
            try:
                report = await self._live()
            finally:
                await self._end()
        log.info("worker %d of %s %s", self._child.pid, self.model.name, _told(report))
        return report

    def _start(self, resources: ExitStack) -> None:
        self._channel = Channel(self._host.context, self._host.run_dir, self._on_frame)
        resources.callback(self._channel.close)
        line = self._host.turns.claim(self.model.name)
        resources.callback(self._host.turns.free, self.model.name)
        process = self._process(self._launch_spec(line))
        resources.callback(process.close)
        self._child = process.child
        self.pid = process.child.pid
        process.begin(self._channel.token)

    def _process(self, spec: LaunchSpec) -> WorkerProcess:
        is_chat = self.model.kind is ModelKind.CHAT
        if is_chat and (spare := self._host.spare.take()) is not None:
            spare.give(self.model.name, spec)
            return spare
        return WorkerProcess(self.model.name, spec, self._host.surroundings, is_chat=is_chat)

    def _launch_spec(self, line: int | None) -> LaunchSpec:
        patience_s = min(_MOST_PATIENCE_S, self._host.timeouts.batch_s / _WAITS_PER_DEADLINE)
        turns = Turns(line=line, workers=self._host.computing_workers, patience_s=patience_s)
        return LaunchSpec(
            model_path=str(self.model.path),
            socket=str(self._channel.path),
            max_batch_items=self._host.max_batch_items,
            max_batch_tokens=self._host.max_batch_tokens,
            calibrate=self._host.calibrate,
            custom_models=self._host.custom_models,
            allowance=self._allowance,
            turns=turns,
        )

    async def _live(self) -> ExitReport:
        exited = self._child.exited
        timeouts = self._host.timeouts
        await _first(self._ready, self._stop, self._fault, exited, within_s=timeouts.load_s)
        if exited.done():
            return await self._died(exited.result(), while_loading=True)
        if self._fault.done():
            return ExitReport(self._fault.result())
        if self._stop.done():
            return ExitReport(self._stop.result())
        if not self._ready.done():
            return ExitReport(
                Failure.START_TIMEOUT, not_loaded_in_time(self.model.name, timeouts.load_s)
            )
        # Publish the state, then wake: whoever is told may send at once.
        self._advance(WorkerState.READY)
        self._observer.on_ready(self._ready.result())

        await _first(self._stop, self._fault, exited)
        if self._fault.done():
            return ExitReport(self._fault.result())
        if exited.done():
            return await self._died(exited.result(), while_loading=False)
        self._advance(WorkerState.DRAINING)
        self._send(Drain())

        await _first(self._fault, exited, within_s=timeouts.stop_s)
        if exited.done():
            await self._hear_last_words(lambda: self._progress.outstanding == 0)
            return ExitReport(self._stop.result(), exit_code=exited.result())
        log.warning("worker %d of %s does not stop by itself", self._child.pid, self.model.name)
        return ExitReport(self._stop.result())

    async def _died(self, exit_code: int, *, while_loading: bool) -> ExitReport:
        if exit_code >= 0:
            await self._hear_last_words(lambda: self._last_words is not None)
        if while_loading and exit_code >= 0:
            words = self._last_words or Fatal(
                ErrorCode.INVALID_MODEL, "the model's process ended while loading"
            )
            return ExitReport(Failure.UNLOADABLE, ServeError(words.code, words.message), exit_code)
        return ExitReport(Failure.CRASHED, exit_code=exit_code)

    async def _hear_last_words(self, heard: Callable[[], bool]) -> None:
        """The kernel may tell of the exit before ZeroMQ has delivered what was sent before it."""
        deadline = asyncio.get_running_loop().time() + _LAST_WORDS_S
        while not heard():
            self._frame_arrived.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._frame_arrived.wait()
            except TimeoutError:
                return

    async def _end(self) -> None:
        self._child.kill()
        # The process dies whatever happens to us; only its zombie would stay behind.
        await asyncio.shield(self._child.exited)
        self._progress.stop()
        self._advance(WorkerState.STOPPED)

    def _advance(self, state: WorkerState) -> None:
        if state <= self.state:
            raise RuntimeError(f"a worker cannot go from {self.state.name} to {state.name}")
        self.state = state

    # --- the wire --------------------------------------------------------------------------------

    def _send(self, message: Batch | Cancel | Drain) -> None:
        # Refused when the process has died, which its exit tells, or has long not read, which its
        # missing progress tells.
        self._channel.send(encode(message))

    def _on_frame(self, frame: memoryview) -> None:
        try:
            message = decode_from_worker(frame)
        except UNDECODABLE:
            self._on_fault(Failure.BROKE_PROTOCOL)
            return
        self._on_message(message)
        self._frame_arrived.set()

    def _on_message(self, message: FromWorker) -> None:
        if isinstance(message, Fatal):
            self._last_words = message
        elif isinstance(message, Ready):
            if message.protocol != PROTOCOL:
                log.error("worker and gateway are of different versions; reinstall mlx-serve")
                self._on_fault(Failure.BROKE_PROTOCOL)
            elif not self._ready.done():
                self._ready.set_result(message)
        elif isinstance(message, Loading | BatchBudget):
            self._observer.on_note(message)
        else:
            self._progress.moved(len(settled(message)))
            if isinstance(message, Prefilled | Generated):
                self._observer.on_progress(message)
            else:
                self._observer.on_result(message)

    def _on_no_progress(self) -> None:
        # An input that holds up a model does not stop its process: somebody else has.
        stopped = self.pid is not None and is_stopped(self.pid)
        self._on_fault(Failure.STOPPED if stopped else Failure.HUNG)

    def _on_fault(self, failure: Failure) -> None:
        if not self._fault.done():
            self._fault.set_result(failure)


async def _first(*futures: "asyncio.Future[Any]", within_s: float | None = None) -> None:
    await asyncio.wait(futures, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)


def _told(report: ExitReport) -> str:
    code = "" if report.exit_code is None else f" (exit code {report.exit_code})"
    return f"ended: {report.reason.value}{code}"

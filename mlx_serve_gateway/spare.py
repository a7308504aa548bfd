"""A process that has imported what chat models need and waits for one: it saves a second of start.

Invariants: there is at most one; it is started only where it may be of use, and again a while after
it was taken or has died, so that the start of a model has the machine to itself.
"""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from mlx_serve_gateway.resident import resident_bytes
from mlx_serve_gateway.worker_process import Surroundings, WorkerProcess

log = logging.getLogger(__name__)

_AFTER_TAKEN_S = 3.0
_AFTER_DEATH_S = 60.0


class SpareStatus(msgspec.Struct, frozen=True):
    pid: int
    memory_bytes: int


class Spare:
    def __init__(self, surroundings: Surroundings, is_wanted: Callable[[], bool]) -> None:
        self._surroundings = surroundings
        self._is_wanted = is_wanted
        self._process: WorkerProcess | None = None
        self._timer: asyncio.TimerHandle | None = None

    def prepare(self) -> None:
        if self._process is not None or not self._is_wanted():
            return
        try:
            self._process = WorkerProcess("spare", None, self._surroundings, is_chat=True)
        except OSError as error:
            log.warning("a spare process could not be started: %s", error)
            self._prepare_in(_AFTER_DEATH_S)
        else:
            self._process.child.exited.add_done_callback(self._on_exit)

    def take(self) -> WorkerProcess | None:
        """It is the caller's from now on."""
        self._prepare_in(_AFTER_TAKEN_S)
        process, self._process = self._process, None
        if process is not None:
            process.child.exited.remove_done_callback(self._on_exit)
        return process

    def status(self) -> SpareStatus | None:
        if self._process is None:
            return None
        pid = self._process.child.pid
        resident = resident_bytes(pid)
        return None if resident is None else SpareStatus(pid, resident)

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        process, self._process = self._process, None
        if process is not None:
            process.child.exited.remove_done_callback(self._on_exit)
            process.child.kill()
            await process.child.exited
            process.close()

    def _on_exit(self, exited: "asyncio.Future[int]") -> None:
        log.warning("the spare process ended (exit code %d)", exited.result())
        if self._process is not None:
            self._process.close()
            self._process = None
        self._prepare_in(_AFTER_DEATH_S)

    def _prepare_in(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay_s, self.prepare)

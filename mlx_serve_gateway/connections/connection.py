"""One TCP connection: when it is waited for, and when it is not any more.

    IDLE ──first byte──► HEAD ──request──► BUSY ──answer──► IDLE
      └─────────────────────┴──────────────────┴── late, broken, last ──► ENDING

Invariants: every phase but BUSY has a deadline, BUSY is bounded by what answers; who takes nothing
of its answer is cut off; a client that has left is noticed in every phase; the connection ends with
the client's last byte, so that no descriptor outlives its client; what is written in one turn of
the event loop, such as the head and the body of an answer, leaves in one piece.
"""

import asyncio
import logging
import math
from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, cast

from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.events import Closed, Event, RawData, Updated

from mlx_serve_gateway.alarm import Alarm

if TYPE_CHECKING:
    from mlx_serve_gateway.connections.protocol import Protocol
    from mlx_serve_gateway.connections.settings import Settings

log = logging.getLogger(__name__)

_HIGH_WATER_BYTES = 65_536
"""Who writes more than that is held up by asyncio until some of it is taken."""
LINGER_S = 2.0
"""How long we read what a client still sends when it has had its answer.

To close with bytes unread would reset the connection, and take the answer with it.
"""


class Phase(Enum):
    IDLE = auto()
    HEAD = auto()
    BUSY = auto()
    ENDING = auto()


class Connection(TCPServer):
    protocol: "Protocol"  # type: ignore[assignment]
    _phase = Phase.BUSY
    _late_at = math.inf
    _unsent_bytes = 0

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._unsent: list[bytes] = []
        # It is left to ring while the phases change, or each request would cost two timers.
        self._alarm = Alarm(self.loop.time, self._look)

    @property
    def _settings(self) -> "Settings":
        return cast("Settings", self.config)

    async def run(self) -> None:
        if not self._settings.places.take(self):
            log.warning("a connection is refused: limits.max_connections are being answered")
            self.leave()
            return
        self._enter(Phase.IDLE)
        try:
            # The stop cuts off who is still sending. Python 3.11's streams take a task that ends
            # cancelled for an error, and log it with a traceback.
            with suppress(asyncio.CancelledError):
                await super().run()
        finally:
            self._alarm.clear()
            self._settings.places.give_back(self)

    def leave(self) -> None:
        self.writer.transport.abort()

    # --- what the client sends -------------------------------------------------------------------

    async def _read_data(self) -> None:
        with suppress(OSError):
            while data := await self.reader.read(MAX_RECV):
                if self._phase is Phase.ENDING:
                    continue
                await self.protocol.handle(RawData(data))
                if self._phase is Phase.IDLE and self.protocol.has_begun_head:
                    self._enter(Phase.HEAD)
        # The client has said its last word: nothing can follow that is worth waiting for.
        self._enter(Phase.ENDING)
        await self.protocol.handle(Closed())
        await self.idle_task.stop()

    # --- what the client is sent -----------------------------------------------------------------

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            if event.data:
                await self._write(event.data)
            return
        self._flush()
        if isinstance(event, Closed):
            self._enter(Phase.ENDING)
        elif isinstance(event, Updated):
            self._enter(Phase.IDLE if event.idle else Phase.BUSY)

    async def _write(self, data: bytes) -> None:
        if not self._unsent:
            self.loop.call_soon(self._flush)
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > _HIGH_WATER_BYTES:
            self._flush()
        try:
            # Most answers go out at once; a timer for each would cost as much as the rest of this.
            while self.writer.transport.get_write_buffer_size() > _HIGH_WATER_BYTES:
                await self._wait_until_taken()
        except (ConnectionError, RuntimeError):
            await self.protocol.handle(Closed())

    def _flush(self) -> None:
        if not self._unsent:
            return
        unsent, self._unsent, self._unsent_bytes = self._unsent, [], 0
        # Whoever reads notices as well that the connection has ended, and tells.
        with suppress(ConnectionError, RuntimeError):
            self.writer.writelines(unsent)

    async def _wait_until_taken(self) -> None:
        """For a while; a client that takes nothing at all in it is cut off."""
        before = self.writer.transport.get_write_buffer_size()
        try:
            async with asyncio.timeout(self._settings.keep_alive_timeout):
                await self.writer.drain()
        except TimeoutError:
            if self.writer.transport.get_write_buffer_size() >= before:
                self.leave()
                raise ConnectionAbortedError from None

    # --- phases ----------------------------------------------------------------------------------

    def _enter(self, phase: Phase) -> None:
        if self._phase is Phase.ENDING:
            return
        self._phase = phase
        settings = self._settings
        match phase:
            case Phase.IDLE:
                settings.places.idle(self)
                self._is_late_in(settings.keep_alive_timeout)
            case Phase.HEAD:
                self._is_late_in(settings.header_timeout)
            case Phase.BUSY:
                settings.places.busy(self)
                self._late_at = math.inf
            case Phase.ENDING:
                self._begin_end()

    def _is_late_in(self, seconds: float) -> None:
        self._late_at = self.loop.time() + seconds
        self._alarm.set(self._late_at)

    def _look(self) -> None:
        if self.loop.time() < self._late_at:
            if self._late_at < math.inf:
                self._alarm.set(self._late_at)
        elif self._phase is Phase.IDLE:
            self._enter(Phase.ENDING)
        elif self._phase is Phase.HEAD:
            self._task_group.spawn(self.protocol.refuse_late_head)
        else:
            self.leave()

    def _begin_end(self) -> None:
        self._late_at = math.inf
        self._settings.places.idle(self)
        with suppress(OSError, RuntimeError):
            self.writer.write_eof()
        if self.context.terminated.is_set():
            self.writer.close()
            return
        is_heard = self.writer.transport.get_write_buffer_size() == 0
        patience_s = LINGER_S if is_heard else self._settings.keep_alive_timeout
        self._is_late_in(patience_s)

    # --- what Hypercorn calls --------------------------------------------------------------------

    async def _idle_timeout(self) -> None:
        """Runs beside each connection: at the stop of the server it goes, unless it is busy."""
        await self.context.terminated.wait()
        if self._phase is not Phase.BUSY:
            self.writer.close()

    async def _close(self) -> None:
        self.writer.close()
        with suppress(OSError, RuntimeError, TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await self.writer.wait_closed()
        self.leave()

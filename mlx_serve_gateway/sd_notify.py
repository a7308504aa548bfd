"""Telling systemd how the server is: that it serves, that it lives, that it stops.

The protocol is sd_notify(3): datagrams to a socket that systemd names in the environment. Without
one nothing is sent and no timer runs.

Invariants: a sign of life is sent only after the server has answered a request over its own port,
so that a full file table or an event loop that is stuck ends in a new start. No child inherits
the variables: only this process speaks for the service.
"""

import asyncio
import logging
import os
import socket
from typing import Any, Self

log = logging.getLogger(__name__)

_ALIVE = (b"200", b"503")
_PROBE = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Notifier:
    def __init__(self, address: str | None, watchdog_s: float | None) -> None:
        self._address = address
        self._watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls) -> Self:
        address = os.environ.pop("NOTIFY_SOCKET", "")
        microseconds = os.environ.pop("WATCHDOG_USEC", "")
        meant = os.environ.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        watched = address and meant and microseconds.isdecimal() and int(microseconds) > 0
        return cls(address or None, int(microseconds) / 1e6 if watched else None)

    def tell(self, *assignments: str) -> None:
        if self._address is None:
            return
        name = self._address
        if name.startswith("@"):  # an abstract socket, which no folder holds
            name = "\0" + name[1:]
        message = "\n".join(assignments).encode()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.setblocking(False)
                channel.sendto(message, name)
        except OSError as error:
            log.warning("systemd could not be told %s: %s", assignments[0], error)

    async def keep_alive(self, listener: Any) -> None:
        """Give signs of life, as often as systemd asks for, until cancelled.

        ``listener`` is the address of one of the server's own sockets.
        """
        if self._watchdog_s is None:
            return
        while True:
            if await _answers(listener, self._watchdog_s / 4):
                self.tell("WATCHDOG=1")
            else:
                log.error("the server did not answer its own health request")
            await asyncio.sleep(self._watchdog_s / 2)


async def _answers(listener: Any, limit_s: float) -> bool:
    try:
        async with asyncio.timeout(limit_s):
            reader, writer = await asyncio.open_connection(*listener[:2])
            try:
                writer.write(_PROBE)
                status_line = await reader.readline()
            finally:
                writer.close()
    except OSError:  # a timeout is one too
        return False
    return status_line.split()[1:2] in [[status] for status in _ALIVE]

"""A Hypercorn connection that ends as soon as its client has ended it.

Hypercorn 0.18 waits for its keep-alive timer even when the client has closed the connection: each
costs a descriptor for ``keep_alive_timeout``, so a client that makes a connection per request has
us out of descriptors within minutes. It has no setting for this and no place to hook in.
"""

import asyncio
from contextlib import suppress

import hypercorn.asyncio.run
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.events import Closed, Event, Updated


class Connection(TCPServer):
    async def run(self) -> None:
        # The stop cuts off who is still sending. Python 3.11's streams take a task that ends
        # cancelled for an error, and log it with a traceback.
        with suppress(asyncio.CancelledError):
            await super().run()

    async def _read_data(self) -> None:
        await super()._read_data()
        # The client has said its last word: nothing can follow that is worth waiting for.
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        is_idle = isinstance(event, Updated) and event.idle
        await super().protocol_send(Closed() if is_idle and self.reader.at_eof() else event)


def install() -> None:
    """Make Hypercorn use it."""
    hypercorn.asyncio.run.TCPServer = Connection  # type: ignore[attr-defined]

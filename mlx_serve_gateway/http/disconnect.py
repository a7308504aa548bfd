"""Stops working for a client that has left.

Hypercorn tells a handler that does not stream nothing of a disconnect: it has to listen itself.
"""

import asyncio
from collections.abc import Awaitable, MutableMapping
from typing import Any

from starlette.types import Receive

from mlx_serve_common.errors import ErrorCode, ServeError


async def unless_gone(receive: Receive, work: Awaitable[None]) -> None:
    """Await ``work``; cancel it and raise ``cancelled`` as soon as the client is gone.

    To be called after the body was read: the next message can only be the disconnect.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ServeError(ErrorCode.CANCELLED, "the client has left")
        task.result()
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))


async def _disconnect(receive: Receive) -> None:
    message: MutableMapping[str, Any] = {}
    while message.get("type") != "http.disconnect":
        message = await receive()

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
    worker = asyncio.current_task()
    assert worker is not None
    is_working, has_left = True, False

    def leave(_: "asyncio.Task[None]") -> None:
        nonlocal has_left
        if is_working:
            has_left = True
            worker.cancel()

    gone = asyncio.ensure_future(_disconnect(receive))
    gone.add_done_callback(leave)
    try:
        await work
    except asyncio.CancelledError:
        # Somebody else may want this task to end at the same time, as a stop does.
        if has_left and worker.uncancel() == 0:
            raise ServeError(ErrorCode.CANCELLED, "the client has left") from None
        raise
    finally:
        is_working = False
        gone.cancel()


async def _disconnect(receive: Receive) -> None:
    message: MutableMapping[str, Any] = {}
    while message.get("type") != "http.disconnect":
        message = await receive()

"""Stops working for a client that has left.

A handler that does not stream is told nothing of a disconnect: it has to ask for it itself.
"""

import asyncio
from collections.abc import Awaitable

from starlette.types import Scope

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.presence import Presence


async def unless_gone(scope: Scope, work: Awaitable[None]) -> None:
    """Await ``work``; cancel it and raise ``cancelled`` as soon as the client is gone."""
    worker = asyncio.current_task()
    assert worker is not None
    has_left = False

    def leave() -> None:
        nonlocal has_left
        has_left = True
        worker.cancel()

    presence = Presence.of(scope)
    presence.watch(leave)
    try:
        await work
    except asyncio.CancelledError:
        # Somebody else may want this task to end at the same time, as a stop does.
        if has_left and worker.uncancel() == 0:
            raise ServeError(ErrorCode.CANCELLED, "the client has left") from None
        raise
    finally:
        presence.unwatch()

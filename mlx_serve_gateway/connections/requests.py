"""The tasks that answer the requests of one connection, and the messages that they are sent.

Invariants: an application that reads a body slowly slows its client down; the end of a request is
heard in any case: what nobody has read of its body by then is dropped. (In Hypercorn it waits for
room behind that body, for ever where the application has answered without reading it.)
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Message

log = logging.getLogger(__name__)


class Requests:
    """Stands in for Hypercorn's task group of a connection."""

    def __init__(self, tasks: Any, invite: Callable[[], Awaitable[None]]) -> None:
        self._tasks = tasks
        self._invite = invite

    async def spawn_app(
        self, app: Any, config: Any, scope: Any, send: Callable[[Any], Awaitable[None]]
    ) -> Callable[[Message], Awaitable[None]]:
        messages = Messages(config.max_app_queue_size)
        self._tasks.spawn(self._answer, app, scope, messages, send)
        return messages.put

    async def _answer(
        self,
        app: Any,
        scope: Any,
        messages: "Messages",
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        async def receive() -> Message:
            await self._invite()
            return await messages.get()

        try:
            await app(scope, receive, send, None, None)
        except Exception:
            log.exception("a request could not be answered")
        finally:
            await send(None)


class Messages(asyncio.Queue[Message]):
    """What a client sends, in its order; in the end that it is done."""

    async def put(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            while not self.empty():
                self.get_nowait()
        await super().put(message)

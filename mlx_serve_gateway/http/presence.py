"""Whether the client of a request is still there, as the connection sees it.

ASGI tells of a client that leaves only to whoever waits for its next message, which takes a task
for each request. So the connection adds this to the scope.
"""

import asyncio
from collections.abc import Callable

from starlette.types import Scope

_EXTENSION = "mlx_serve.presence"


class Presence:
    __slots__ = ("_on_leave", "has_left", "is_body_here")

    def __init__(self) -> None:
        self.has_left = False
        self.is_body_here = False
        """All of the body has arrived."""
        self._on_leave: Callable[[], None] | None = None

    @staticmethod
    def of(scope: Scope) -> "Presence":
        presence = scope["extensions"][_EXTENSION]
        assert isinstance(presence, Presence)
        return presence

    def as_extension(self) -> dict[str, object]:
        return {_EXTENSION: self}

    def watch(self, on_leave: Callable[[], None]) -> None:
        """Have it called once when the client leaves or has left, by the event loop: whoever
        notices may be the one who works for the client."""
        self._on_leave = on_leave
        if self.has_left:
            self._tell_soon()

    def unwatch(self) -> None:
        self._on_leave = None

    def leave(self) -> None:
        if not self.has_left:
            self.has_left = True
            self._tell_soon()

    def _tell_soon(self) -> None:
        if self._on_leave is not None:
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        on_leave, self._on_leave = self._on_leave, None
        if on_leave is not None:
            on_leave()

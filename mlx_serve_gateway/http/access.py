"""Who may do what: inference is for everybody, the machine is for its owner.

What changes this machine, or tells about it, is answered to callers on this machine and to those
who send the admin key. Everything else is open to whoever can connect.

Invariants: the socket and the key decide, never a name or a header that anybody can send; a caller
on this machine needs no key, so a wrong one locks nobody out; keys are compared in constant time.
"""

import hmac
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from mlx_serve_common.config import ServerConfig
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.peer import is_loopback

Handler = Callable[[Request], Awaitable[Response]]


class Access:
    def __init__(self, config: ServerConfig) -> None:
        self._key = None if config.admin_key is None else config.admin_key.encode()

    def is_owner(self, scope: Scope) -> bool:
        return is_loopback(scope) or self._has_key(scope)

    def require_owner(self, scope: Scope) -> None:
        if self.is_owner(scope):
            return
        if self._key is None:
            raise ServeError(
                ErrorCode.CONTROL_PLANE_LOCAL_ONLY,
                "only the machine that the server runs on may do this; to allow it from elsewhere, "
                "set server.admin_key there and send it as 'Authorization: Bearer KEY'",
            )
        if _bearer_tokens(scope):
            raise ServeError(ErrorCode.INVALID_ADMIN_KEY, "this is not the server's admin key")
        raise ServeError(
            ErrorCode.CONTROL_PLANE_LOCAL_ONLY,
            "only the machine that the server runs on may do this, and who sends the server's "
            "admin key as 'Authorization: Bearer KEY'",
        )

    def owners_only(self, handler: Handler) -> Handler:
        """The handler, for those who may."""

        async def guarded(request: Request) -> Response:
            self.require_owner(request.scope)
            return await handler(request)

        return guarded

    def _has_key(self, scope: Scope) -> bool:
        tokens = _bearer_tokens(scope)
        # Two headers could be judged by one and logged, or passed on, by the other.
        if self._key is None or len(tokens) != 1:
            return False
        return hmac.compare_digest(tokens[0], self._key)


def _bearer_tokens(scope: Scope) -> list[bytes]:
    given = [value.strip() for name, value in scope["headers"] if name == b"authorization"]
    split = [value.partition(b" ") for value in given]
    return [token.strip() for scheme, _, token in split if scheme.lower() == b"bearer"]

"""Who may do what: inference is for everybody, the machine is for its owner.

To look at the machine (what is loaded, how it fares) or to change it (what is installed, loaded,
set) takes a caller on this machine or the admin key. ``server.control_plane`` says whether being on
this machine is enough, and whether anything may be changed over HTTP at all. Our own commands send
a key that the server has left for its account (the pid file), which opens it whatever is set.

Invariants: the socket and the key decide, never a name or a header that anybody can send; where a
caller on this machine needs no key, a wrong one locks nobody out; keys are compared in constant
time.
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
    def __init__(self, server: ServerConfig, own_key: str | None = None) -> None:
        self._mode = server.control_plane
        self._key = server.admin_key
        self._own_key = own_key

    def may_look(self, scope: Scope) -> bool:
        if self._mode != "key" and is_loopback(scope):
            return True
        return self._is_owner(scope)

    def may_change(self, scope: Scope) -> bool:
        if self._mode == "off":
            return _has_key(scope, self._own_key)
        return self.may_look(scope)

    def to_look(self, handler: Handler) -> Handler:
        """The handler, for those who may see how this machine is."""
        return _guarded(handler, self.may_look, self._refusal)

    def to_change(self, handler: Handler) -> Handler:
        """The handler, for those who may change what this machine does."""
        refusal = _is_off if self._mode == "off" else self._refusal
        return _guarded(handler, self.may_change, refusal)

    def _is_owner(self, scope: Scope) -> bool:
        return _has_key(scope, self._key) or _has_key(scope, self._own_key)

    def _refusal(self, scope: Scope) -> ServeError:
        if self._key is None:
            return ServeError(
                ErrorCode.CONTROL_PLANE_LOCAL_ONLY,
                "only the machine that the server runs on may do this; to allow it from elsewhere, "
                "set server.admin_key there and send it as 'Authorization: Bearer KEY'",
            )
        if _bearer_tokens(scope):
            return ServeError(ErrorCode.INVALID_ADMIN_KEY, "this is not the server's admin key")
        if self._mode == "key":
            return ServeError(
                ErrorCode.INVALID_ADMIN_KEY,
                "this takes the server's admin key, sent as 'Authorization: Bearer KEY'",
            )
        return ServeError(
            ErrorCode.CONTROL_PLANE_LOCAL_ONLY,
            "only the machine that the server runs on may do this, and who sends the server's "
            "admin key as 'Authorization: Bearer KEY'",
        )


def _is_off(scope: Scope) -> ServeError:
    return ServeError(
        ErrorCode.CONTROL_PLANE_OFF,
        "this server is not managed over HTTP (server.control_plane: off); use its commands on the "
        "machine that it runs on",
    )


def _guarded(
    handler: Handler, may: Callable[[Scope], bool], refusal: Callable[[Scope], ServeError]
) -> Handler:
    async def guarded(request: Request) -> Response:
        if not may(request.scope):
            raise refusal(request.scope)
        return await handler(request)

    return guarded


def _has_key(scope: Scope, key: str | None) -> bool:
    tokens = _bearer_tokens(scope)
    # Two headers could be judged by one and logged, or passed on, by the other.
    if key is None or len(tokens) != 1:
        return False
    return hmac.compare_digest(tokens[0], key.encode())


def _bearer_tokens(scope: Scope) -> list[bytes]:
    given = [value.strip() for name, value in scope["headers"] if name == b"authorization"]
    split = [value.partition(b" ") for value in given]
    return [token.strip() for scheme, _, token in split if scheme.lower() == b"bearer"]

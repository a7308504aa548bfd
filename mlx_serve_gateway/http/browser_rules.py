"""What a web page may not do with a server that its reader can reach.

Judged for every request, before it is routed: the ``Host`` has to be an address or a name of this
machine (a page that rebinds its own name to our address is found out by it), an ``Origin`` has to
be a local page or one from ``server.allowed_origins``, and a body that a page could send without
asking first has to be JSON.

Invariants: a refused request has no effect and gets no CORS header; an allowed origin is echoed,
never ``*``, never with credentials, never for a private network.
"""

import functools
import ipaddress
import re
import socket
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlx_serve_common.config import ServerConfig
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.errors import error_response

_HOST = re.compile(r"(\[[0-9A-Fa-f:.%A-Za-z]+\]|[^\[\]:/?#@\s]+)(?::([0-9]{1,5}))?")
_LOCAL_ORIGIN = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?")
_OF_PAGES = {b"origin", b"referer", b"cookie"}
_FOREIGN = {"cross-site", "same-site"}
_WITH_BODY = {"POST", "PUT", "PATCH", "DELETE"}
_METHODS = "GET, HEAD, POST, PUT, DELETE, OPTIONS"
_TOLD = "x-request-id, x-compute-ms, x-truncated-inputs, x-index-fingerprint, retry-after"
_HEADER_NAMES = re.compile(r"[A-Za-z0-9-]+(?:\s*,\s*[A-Za-z0-9-]+)*")
_LONGEST_HEADER_NAMES = 1024
_PREFLIGHT_S = "600"


class BrowserRules:
    """An ASGI layer around everything that answers."""

    def __init__(
        self,
        app: ASGIApp,
        config: ServerConfig,
        hostname: Callable[[], str] = socket.gethostname,
    ) -> None:
        self._app = app
        self._hosts = {name.lower().rstrip(".") for name in config.allowed_hosts}
        self._origins = {origin.lower().rstrip("/") for origin in config.allowed_origins}
        self._hostname = hostname

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check_host(scope)
            if not _may_be_a_page(scope):
                await self._app(scope, receive, send)
                return
            headers = Headers(scope=scope)
            origin = self._allowed_origin(headers)
            _check_media_type(scope["method"], headers)
        except ServeError as error:
            await error_response(error, scope["path"])(scope, receive, send)
            return
        if origin is None:
            await self._app(scope, receive, send)
        elif scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await _preflight(origin, headers)(scope, receive, send)
        else:
            await self._app(scope, receive, _with_origin(origin, send))

    def _check_host(self, scope: Scope) -> None:
        given = [value for name, value in scope["headers"] if name == b"host"]
        if len(given) == 1 and (found := _HOST.fullmatch(str(given[0], "latin-1"))):
            name = found[1].strip("[]").lower()
            if _is_address(name) or self._is_known(name.removesuffix(".")):
                return
        raise ServeError(
            ErrorCode.HOST_NOT_ALLOWED,
            "the Host of this request is no name of this server; use its address, or add the name "
            "to server.allowed_hosts",
        )

    def _is_known(self, name: str) -> bool:
        if name == "localhost" or name.endswith(".localhost") or name in self._hosts:
            return True
        # Asked each time: a laptop's name changes with its network.
        own = self._hostname().lower().rstrip(".")
        return name in (own, f"{own}.local", f"{own.partition('.')[0]}.local") and name != ".local"

    def _allowed_origin(self, headers: Headers) -> str | None:
        """The page's origin, None if no page is known to have a part in it."""
        given = headers.getlist("origin")
        if not given:
            if headers.get("sec-fetch-site", "").lower() in _FOREIGN:
                raise _not_allowed("a page of another site")
            return None
        origin = given[0]
        if len(given) > 1 or not self._is_allowed(origin):
            raise _not_allowed("the page that sent this request")
        return origin

    def _is_allowed(self, origin: str) -> bool:
        origin = origin.lower()
        return bool(_LOCAL_ORIGIN.fullmatch(origin)) or origin in self._origins


def _not_allowed(who: str) -> ServeError:
    return ServeError(
        ErrorCode.ORIGIN_NOT_ALLOWED,
        f"{who} may not use this server; server.allowed_origins lists those that may",
    )


@functools.lru_cache(maxsize=256)
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _check_media_type(method: str, headers: Headers) -> None:
    """Forms and plain text are what a page can send unasked; curl and LiteLLM send them too."""
    if method not in _WITH_BODY:
        return
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ServeError(
            ErrorCode.UNSUPPORTED_MEDIA_TYPE, "a page has to send Content-Type: application/json"
        )


def _may_be_a_page(scope: Scope) -> bool:
    return any(name in _OF_PAGES or name.startswith(b"sec-fetch-") for name, _ in scope["headers"])


def _preflight(origin: str, headers: Headers) -> Response:
    allowed = {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": _METHODS,
        "access-control-max-age": _PREFLIGHT_S,
        "vary": "Origin, Access-Control-Request-Headers",
    }
    asked = headers.get("access-control-request-headers", "")
    if len(asked) <= _LONGEST_HEADER_NAMES and _HEADER_NAMES.fullmatch(asked):
        allowed["access-control-allow-headers"] = asked
    return Response(status_code=204, headers=allowed)


def _with_origin(origin: str, send: Send) -> Send:
    async def send_with_origin(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["access-control-allow-origin"] = origin
            headers["access-control-expose-headers"] = _TOLD
            headers.add_vary_header("Origin")
        await send(message)

    return send_with_origin

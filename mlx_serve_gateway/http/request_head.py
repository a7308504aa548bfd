"""What the head of a request has to be, whatever it asks for.

Invariants: judged before anything else reads the request; a request whose end two servers could
see at different places is refused and ends its connection.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.errors import error_response

MAX_URL_BYTES = 8192
_MAX_HEADERS = 100
_VERSIONS = {"1.0", "1.1"}


class RequestHead:
    """An ASGI layer around everything that answers."""

    def __init__(self, app: ASGIApp, max_header_bytes: int) -> None:
        self._app = app
        self._max_header_bytes = max_header_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = refusal(scope, self._max_header_bytes) if scope["type"] == "http" else None
        if error is None:
            await self._app(scope, receive, send)
        else:
            answer = error_response(error, scope["path"], {"connection": "close"})
            await answer(scope, receive, send)


def refusal(scope: Scope, max_header_bytes: int) -> ServeError | None:
    headers = scope["headers"]
    if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_URL_BYTES:
        message = f"the URL is longer than {MAX_URL_BYTES} bytes"
        return ServeError(ErrorCode.URL_TOO_LONG, message)
    if len(headers) > _MAX_HEADERS:
        return ServeError(
            ErrorCode.HEADERS_TOO_LARGE, f"there are more than {_MAX_HEADERS} headers"
        )
    if sum([len(name) + len(value) for name, value in headers]) > max_header_bytes:
        message = f"the headers are larger than {max_header_bytes} bytes"
        return ServeError(ErrorCode.HEADERS_TOO_LARGE, message)
    if wrong := _what_is_wrong(scope):
        return ServeError(ErrorCode.INVALID_REQUEST, wrong)
    return None


def _what_is_wrong(scope: Scope) -> str | None:
    if scope["http_version"] not in _VERSIONS:
        return "this server speaks HTTP/1.1 only"
    if not scope["raw_path"].startswith(b"/"):
        return "the target of a request has to be a path"
    names = {name for name, _ in scope["headers"]}
    if {b"content-length", b"transfer-encoding"} <= names:
        return "Content-Length and Transfer-Encoding exclude each other"
    return None

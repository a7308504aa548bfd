"""From request bytes to a typed struct, whatever the client says that they are.

Invariants: the body is bounded while it is read; every way in which it can be wrong is a
ServeError that names the field; a Content-Type is not needed (LiteLLM's Ollama calls send none).
"""

import re
from typing import TypeVar

import msgspec
from starlette.requests import Request

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.undecodable import UNDECODABLE
from mlx_serve_gateway.http.header_values import header

T = TypeVar("T")

CONTROL_BODY_BYTES = 65_536
"""Enough for whoever manages models: an order is a few names."""

_AT = re.compile(r"(?: - at (?:`key` in )?`\$\.?(?P<path>[^`]*)`)$")
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89aAbB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89aAbB]..)\\u[dD][c-fC-F].."
)
_MISSING = re.compile(r"missing required field `(?P<field>[^`]*)`")


async def read_body(request: Request, max_bytes: int) -> bytes:
    encoding = header(request.scope, b"content-encoding")
    if encoding is not None and encoding.lower() != "identity":
        raise ServeError(
            ErrorCode.UNSUPPORTED_MEDIA_TYPE, "compressed request bodies are not supported"
        )
    announced = header(request.scope, b"content-length")
    if announced is not None and announced.isdecimal() and int(announced) > max_bytes:
        raise too_large(max_bytes)
    chunks: list[bytes] = []
    size = 0
    is_whole = False
    while not is_whole:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ServeError(ErrorCode.CANCELLED, "the client has left")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > max_bytes:
            raise too_large(max_bytes)
        is_whole = not message.get("more_body", False)
    return b"".join(chunks)


def decode(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid_request(str(error)) from None
    except UNDECODABLE as error:
        raise ServeError(
            ErrorCode.INVALID_JSON, f"the request body is not valid JSON: {_reason(error, body)}"
        ) from None


def _reason(error: Exception, body: bytes) -> str:
    if not body.strip():
        return "it is empty"
    if isinstance(error, RecursionError):
        return "it is too deeply nested"
    if not _is_text(body):
        return "it is not UTF-8"
    if _LONE_SURROGATE.search(body):
        return "half of a surrogate pair (\\ud800 to \\udfff alone) is no character"
    return str(error)


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def too_large(max_bytes: int) -> ServeError:
    return ServeError(
        ErrorCode.REQUEST_TOO_LARGE,
        f"the request body is larger than {max_bytes} bytes; send fewer inputs per request",
    )


def invalid_request(message: str) -> ServeError:
    """What msgspec found wrong, in a field of the request."""
    param = None
    if found := _AT.search(message):
        param = found["path"] or None
        message = message[: found.start()]
        if param:
            message = f"{param}: {message}"
    if missing := _MISSING.search(message):
        param = ".".join(filter(None, [param, missing["field"]]))
    root = re.split(r"[.\[]", param)[0] if param else None
    return ServeError(ErrorCode.INVALID_REQUEST, message, param=root)

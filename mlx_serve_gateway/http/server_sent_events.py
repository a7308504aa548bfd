"""The frames of OpenAI's streams."""

from typing import Any

import msgspec

from mlx_serve_common.errors import ServeError
from mlx_serve_gateway.http.errors import error_body

KEEP_ALIVE = b": keep-alive\n\n"
"""A comment: clients read over it."""
DONE = b"data: [DONE]\n\n"


def data(content: Any) -> bytes:
    return frame(msgspec.json.encode(content))


def frame(text: bytes) -> bytes:
    return b"data: %b\n\n" % text


def failure(error: ServeError) -> bytes:
    return data(error_body(error, "/v1/"))

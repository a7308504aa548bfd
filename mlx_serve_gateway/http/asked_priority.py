"""The header ``X-Priority``: whether somebody waits for the answer."""

from starlette.requests import Request

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.header_values import header
from mlx_serve_gateway.priority import ASKED, Priority

HEADER = b"x-priority"


def asked_priority(request: Request) -> Priority | None:
    """None leaves it to the size of the request."""
    asked = header(request.scope, HEADER)
    if asked is None:
        return None
    try:
        return ASKED[asked.strip().lower()]
    except KeyError:
        raise ServeError(
            ErrorCode.INVALID_REQUEST, "X-Priority: is interactive or bulk", param="X-Priority"
        ) from None

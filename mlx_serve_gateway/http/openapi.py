"""GET /openapi.json: the contract of this server, for programs."""

from functools import cache

from starlette.requests import Request
from starlette.responses import Response


async def openapi(request: Request) -> Response:
    return Response(_document(), media_type="application/json")


@cache
def _document() -> str:
    # Most servers are never asked, and nothing else needs these types.
    from mlx_serve_gateway.http.contract.document import openapi_text

    return openapi_text()

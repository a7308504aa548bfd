"""GET /metrics: what Prometheus reads."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_gateway.exposition import CONTENT_TYPE


class PrometheusApi:
    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read

    async def metrics(self, request: Request) -> Response:
        return Response(self._read(), headers={"content-type": CONTENT_TYPE})

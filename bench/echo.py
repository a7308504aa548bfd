"""``python -m bench.echo PORT``: a bare Starlette application that answers as much as it is told.

What is left of a request when all that a server does for it is taken away.
"""

import functools
import sys

import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

BYTES = "bytes"
"""In the query: so many. Other servers take no notice of it."""


async def _answer(request: Request) -> Response:
    await request.body()
    return Response(_content(request.query_params.get(BYTES, "0")), media_type="application/json")


@functools.cache
def _content(size: str) -> bytes:
    return b"x" * int(size)


def main(port: int) -> None:
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "WARNING"
    app = Starlette(routes=[Route("/{path:path}", _answer, methods=["GET", "POST"])])
    uvloop.run(serve(app, config))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(int(sys.argv[1]))

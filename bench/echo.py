"""``python -m bench.echo PORT BYTES``: a bare Starlette application that answers so many bytes.

What is left of a request when all that a server does for it is taken away.
"""

import sys

import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def main(port: int, size: int) -> None:
    content = b"x" * size

    async def answer(request: Request) -> Response:
        await request.body()
        return Response(content, media_type="application/json")

    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "WARNING"
    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    uvloop.run(serve(app, config))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

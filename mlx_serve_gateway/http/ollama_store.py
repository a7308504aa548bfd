"""DELETE /api/delete and POST /api/copy, and what of Ollama's store there is not here."""

from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.codec import CONTROL_BODY_BYTES, decode, read_body
from mlx_serve_gateway.http.ollama_models import NamedModel, required_name
from mlx_serve_gateway.services import Services
from mlx_serve_gateway.store_changes import StoreChanges


class CopyRequest(msgspec.Struct, kw_only=True):
    source: str
    destination: str


_named_model = msgspec.json.Decoder(NamedModel)
_copy = msgspec.json.Decoder(CopyRequest)


class OllamaStoreApi:
    def __init__(self, services: Services) -> None:
        self._registry = services.registry
        self._limits = services.config.limits
        self._changes = StoreChanges(
            Path(services.config.models.directory), services.pool, services.jobs
        )

    async def delete(self, request: Request) -> Response:
        """Not cancelled by a client that leaves: what has begun is brought to its end."""
        body = decode(_named_model, await read_body(request, CONTROL_BODY_BYTES))
        name = body.asked
        if name in dict(self._registry.broken()):
            await self._changes.remove_folder(name)
        else:
            await self._changes.remove(self._registry.find(name), self._limits.drain_timeout)
        return Response(status_code=200)

    async def copy(self, request: Request) -> Response:
        body = decode(_copy, await read_body(request, CONTROL_BODY_BYTES))
        source = self._registry.find(body.source)
        name = required_name(body.destination).removesuffix(":latest")
        await self._changes.copy(source, name)
        return Response(status_code=200)

    async def create(self, request: Request) -> Response:
        raise _not_here("models are not made here: pull one, or use `mlx-serve import`")

    async def push(self, request: Request) -> Response:
        raise _not_here("models are not published from here; the hub's own tools do that")

    async def blob(self, request: Request) -> Response:
        raise _not_here("there are no blobs here: pull a model, or use `mlx-serve import`")


def _not_here(why: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_REQUEST, why)

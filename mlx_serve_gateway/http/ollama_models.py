"""GET /api/tags, /api/ps, /api/version and POST /api/show: what there is, in Ollama's words."""

from datetime import UTC, datetime, timedelta

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.http.answers import json_response
from mlx_serve_gateway.http.codec import CONTROL_BODY_BYTES, decode, read_body
from mlx_serve_gateway.http.ollama_entries import LoadedModel, Tag, shown, tag
from mlx_serve_gateway.http.ollama_facts import details, digest
from mlx_serve_gateway.lane_status import LaneStatus
from mlx_serve_gateway.services import Services

OLLAMA_VERSION = "0.13.0"
"""What we are compatible with, not what we are: clients refuse versions below 0.6.4."""

# Ollama's command shows a time as far away as this as "Forever".
_FOR_EVER = timedelta(days=100 * 365)


class NamedModel(msgspec.Struct):
    """The body of most of Ollama's requests; ``name`` is what it was called once."""

    model: str | None = None
    name: str | None = None

    @property
    def asked(self) -> str:
        return required_name(self.model or self.name)


class OllamaVersion(msgspec.Struct):
    version: str


class Tags(msgspec.Struct):
    models: list[Tag]


class LoadedModels(msgspec.Struct):
    models: list[LoadedModel]


_named_model = msgspec.json.Decoder(NamedModel)


class OllamaModelsApi:
    def __init__(self, services: Services) -> None:
        self._registry = services.registry
        self._pool = services.pool

    async def version(self, request: Request) -> Response:
        return json_response(OllamaVersion(OLLAMA_VERSION))

    async def tags(self, request: Request) -> Response:
        return json_response(Tags([tag(model) for model in self._registry.models()]))

    async def ps(self, request: Request) -> Response:
        now = datetime.now(UTC)
        loaded = [_loaded(lane, now) for lane in self._pool.statuses() if lane.state != "absent"]
        return json_response(LoadedModels(loaded))

    async def show(self, request: Request) -> Response:
        body = decode(_named_model, await read_body(request, CONTROL_BODY_BYTES))
        model = self._registry.find(body.asked)
        return json_response(shown(model))


def required_name(name: str | None) -> str:
    if not name:
        raise ServeError(ErrorCode.INVALID_REQUEST, "model is required", param="model")
    return name


def _loaded(lane: LaneStatus, now: datetime) -> LoadedModel:
    manifest = lane.installed.manifest
    size = lane.memory_bytes or manifest.weights_bytes
    expires_in = _FOR_EVER
    if lane.expires_in_s < _FOR_EVER.total_seconds():
        expires_in = timedelta(seconds=lane.expires_in_s)
    return LoadedModel(
        name=lane.model,
        model=lane.model,
        size=size,
        digest=digest(manifest),
        details=details(manifest),
        expires_at=(now + expires_in).isoformat(),
        size_vram=size if lane.device in ("metal", "cuda") else 0,
        context_length=manifest.max_tokens or 0,
        type=lane.installed.kind,
        state=lane.state,
        device=lane.device,
        pid=lane.pid,
        pinned=lane.pinned,
        in_flight=lane.in_flight,
        queued=lane.queued,
        restarts=lane.restarts,
        batch_tokens=None if lane.budget is None else lane.budget.tokens,
        batch_tokens_source=None if lane.budget is None else lane.budget.source,
        load=lane.load,
    )

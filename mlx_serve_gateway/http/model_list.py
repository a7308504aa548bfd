"""GET /v1/models and /v1/models/{id}."""

from datetime import datetime
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlx_serve_common.fingerprint import index_fingerprint
from mlx_serve_common.models import InstalledModel, ModelKind, Verified
from mlx_serve_gateway.http.answers import json_response
from mlx_serve_gateway.services import Services


class ModelCard(msgspec.Struct, kw_only=True):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "mlx-serve"
    type: ModelKind
    dimensions: int | None
    max_tokens: int | None
    source: str | None
    prompts: list[str]
    fingerprint: str
    verified: Verified | None


class ModelList(msgspec.Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class ModelsApi:
    def __init__(self, services: Services) -> None:
        self._registry = services.registry

    async def list(self, request: Request) -> Response:
        return json_response(
            ModelList(data=[model_card(model) for model in self._registry.models()])
        )

    async def get(self, request: Request) -> Response:
        return json_response(model_card(self._registry.find(request.path_params["id"])))


def model_card(model: InstalledModel) -> ModelCard:
    manifest = model.manifest
    return ModelCard(
        id=manifest.name,
        created=int(datetime.fromisoformat(manifest.created_at).timestamp()),
        type=manifest.kind,
        dimensions=manifest.dimensions,
        max_tokens=manifest.max_tokens,
        source=manifest.source,
        prompts=sorted(manifest.prompts),
        fingerprint=index_fingerprint(manifest),
        verified=manifest.verified,
    )

"""What is answered about models in Ollama's words: also what the commands print as JSON.

Invariants: Ollama's own keys are complete; those that it does not have are ours.
"""

from typing import Any

import msgspec

from mlx_serve_common.models import InstalledModel, ModelKind
from mlx_serve_common.wire import BudgetSource
from mlx_serve_gateway.http.ollama_facts import (
    ModelDetails,
    capabilities,
    details,
    digest,
    model_info,
    modified_at,
    parameters,
    template,
)
from mlx_serve_gateway.load_progress import LoadState


class Tag(msgspec.Struct, kw_only=True):
    """Of ``/api/tags`` and ``list --json``."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: ModelDetails
    type: ModelKind
    dimensions: int | None
    max_tokens: int | None
    source: str | None
    revision: str | None


class LoadedModel(msgspec.Struct, kw_only=True):
    """Of ``/api/ps`` and ``ps --json``."""

    name: str
    model: str
    size: int
    digest: str
    details: ModelDetails
    expires_at: str
    size_vram: int
    context_length: int
    type: ModelKind
    state: str
    device: str | None
    pid: int | None
    pinned: bool
    in_flight: int
    queued: int
    restarts: int
    batch_tokens: int | None
    batch_tokens_source: BudgetSource | None
    load: LoadState | None


class Shown(msgspec.Struct, kw_only=True):
    """Of ``/api/show`` and ``show --json``."""

    license: str = ""
    modelfile: str
    parameters: str = ""
    template: str = ""
    details: ModelDetails
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


def tag(model: InstalledModel) -> Tag:
    manifest = model.manifest
    return Tag(
        name=model.name,
        model=model.name,
        modified_at=modified_at(manifest),
        size=manifest.size_bytes,
        digest=digest(manifest),
        details=details(manifest),
        type=model.kind,
        dimensions=manifest.dimensions,
        max_tokens=manifest.max_tokens,
        source=manifest.source,
        revision=manifest.revision,
    )


def shown(model: InstalledModel) -> Shown:
    manifest = model.manifest
    return Shown(
        modelfile=f"FROM {manifest.source or model.name}\n",
        parameters=parameters(manifest),
        template=template(manifest),
        details=details(manifest),
        model_info=model_info(model),
        capabilities=capabilities(manifest),
        modified_at=modified_at(manifest),
    )

"""Which code runs a ``model_type``: the one registry of architectures.

Invariants: a name from a model's files is only ever looked up here, never imported; the module
behind it is imported when a model needs it, and not before.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol, cast

import mlx.core as mx

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Implementation

_ENCODERS = {
    "bert": "mlx_serve_worker.models.bert",
    "camembert": "mlx_serve_worker.models.roberta",
    "deberta-v2": "mlx_serve_worker.models.deberta_v2",
    "distilbert": "mlx_serve_worker.models.distilbert",
    "gemma3_text": "mlx_serve_worker.models.gemma3_text",
    "modernbert": "mlx_serve_worker.models.modernbert",
    "mpnet": "mlx_serve_worker.models.mpnet",
    "nomic_bert": "mlx_serve_worker.models.nomic_bert",
    "roberta": "mlx_serve_worker.models.roberta",
    "xlm-roberta": "mlx_serve_worker.models.roberta",
}
_DECODERS = dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), "mlx_serve_worker.models.decoder")


class Encoder(Protocol):
    """An ``mlx.nn.Module`` that turns token ids into one vector per token."""

    vocab_size: int
    positions: int
    """The longest input, special tokens included."""
    dimensions: int

    def __call__(self, token_ids: mx.array, mask: mx.array | None) -> mx.array: ...

    def parameters(self) -> Any: ...

    def update(self, parameters: Any) -> Any: ...


class Architecture(Protocol):
    """What a module in ``mlx_serve_worker.models`` offers.

    Code of others (see ``models.library``) has no ``parameter_name``: it renames by itself. A
    module may also offer ``decisions(config)``, for the manifest to tell.
    """

    def build(self, config: dict[str, Any]) -> Encoder: ...

    def parameter_name(self, name: str) -> str | None: ...


class Found(NamedTuple):
    code: Architecture
    implementation: Implementation
    decided_by: str
    """Empty for what is built in."""


def leave_out_all_but_first(encoder: Encoder) -> None:
    """Of each text only the first token's vector will be read. An encoder that need not compute
    the others for it has a ``first_only``, and then may give no others."""
    if hasattr(encoder, "first_only"):
        encoder.first_only = True


def names() -> list[str]:
    return sorted(_ENCODERS | _DECODERS)


def find(model_type: str) -> Architecture:
    """One of those that are built in."""
    module = (_ENCODERS | _DECODERS).get(model_type)
    if module is None:
        raise _unknown(model_type)
    return cast(Architecture, importlib.import_module(module))


def choose(model_type: str, custom_models: Path | None) -> Found:
    """The code for a model that is about to be installed: ours, a person's own, or a library's."""
    # Here and below: a worker with a built-in architecture needs none of these.
    from mlx_serve_worker import custom_models as custom

    if model_type in _ENCODERS | _DECODERS:
        custom.refuse_shadow(model_type, custom_models)
        return Found(find(model_type), "own" if model_type in _ENCODERS else "mlx_lm", "")
    if found := custom.find_custom(model_type, custom_models):
        return Found(_custom(*found), "custom", found[1])
    return Found(_fallback(model_type), "mlx_embeddings", "mlx_embeddings")


def installed(
    model_type: str, implementation: Implementation, custom_models: Path | None
) -> Architecture:
    """The code that a model was installed with."""
    if implementation == "mlx_embeddings":
        return _fallback(model_type)
    if implementation != "custom":
        return find(model_type)
    from mlx_serve_worker import custom_models as custom

    if found := custom.find_custom(model_type, custom_models):
        return _custom(*found)
    raise ServeError(
        ErrorCode.INVALID_MODEL,
        f"the model was installed with a custom architecture {model_type[:64]!r}, which is gone",
    )


def _custom(module: ModuleType, place: str) -> Architecture:
    from mlx_serve_worker.models.library import CustomEncoders, LanguageModels

    if hasattr(module, "build") and hasattr(module, "parameter_name"):
        return CustomEncoders(module)
    if hasattr(module, "Model") and hasattr(module, "ModelArgs"):
        return cast(Architecture, LanguageModels(module))
    raise ServeError(
        ErrorCode.INVALID_MODEL,
        f"{place} offers neither build and parameter_name nor Model and ModelArgs",
    )


def _fallback(model_type: str) -> Architecture:
    from mlx_serve_worker import mlx_embeddings_models

    found = mlx_embeddings_models.find(model_type)
    if found is None:
        raise _unknown(model_type)
    return cast(Architecture, found)


def _unknown(model_type: str) -> ServeError:
    return ServeError(
        ErrorCode.INVALID_MODEL,
        f"models of type {model_type[:64]!r} cannot be served; these can: {', '.join(names())}",
    )

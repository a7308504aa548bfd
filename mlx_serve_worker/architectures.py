"""Which code runs a ``model_type``: the one registry of architectures.

Invariants: a name from a model's files is only ever looked up here, never imported; the module
behind it is imported when a model needs it, and not before.
"""

import importlib
from typing import Any, Protocol, cast

import mlx.core as mx

from mlx_serve_common.errors import ErrorCode, ServeError

_ENCODERS = {"bert": "mlx_serve_worker.models.bert"}


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
    """What a module in ``mlx_serve_worker.models`` offers."""

    def build(self, config: dict[str, Any]) -> Encoder: ...

    def parameter_name(self, name: str) -> str | None: ...


def names() -> list[str]:
    return sorted(_ENCODERS)


def find(model_type: str) -> Architecture:
    module = _ENCODERS.get(model_type)
    if module is None:
        raise ServeError(
            ErrorCode.INVALID_MODEL,
            f"models of type {model_type[:64]!r} cannot be served; these can: {', '.join(names())}",
        )
    return cast(Architecture, importlib.import_module(module))

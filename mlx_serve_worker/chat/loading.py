"""A chat model's folder to a model that is ready to run, and what running it takes.

Invariants: a model whose memory of a conversation cannot be put into a batch with others is refused
here, not at its first request.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Manifest
from mlx_serve_worker.chat.room import leaves
from mlx_serve_worker.chat.watched_model import WatchedModel
from mlx_serve_worker.chat_model import load_chat_model


class Loaded(NamedTuple):
    model: WatchedModel
    manifest: Manifest
    make_cache: Callable[[], list[Any]]
    """For a new conversation: what it will leave in the model's layers."""
    sample: list[Any]
    """What one token has left there."""


def load(folder: Path, custom_models: Path | None, *, widens: bool = False) -> Loaded:
    model, manifest = load_chat_model(folder, custom_models, widens=widens)
    cache = model.new_cache()
    logits = model.logits(mx.zeros((1, 1), mx.int32), cache)
    mx.eval(logits, [layer.state for layer in cache])
    refuse_unbatched(cache)
    return Loaded(WatchedModel(model.model, logits.shape[-1]), manifest, model.new_cache, cache)


def refuse_unbatched(cache: list[Any]) -> None:
    for layer in leaves(cache):
        if not hasattr(layer, "merge"):
            raise ServeError(
                ErrorCode.INVALID_MODEL,
                "this model's answers cannot be generated together with others, because of how its"
                f" layers remember ({type(layer).__name__})",
            )

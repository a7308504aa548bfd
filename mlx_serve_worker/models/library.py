"""Model classes in the style of mlx-lm and mlx-embeddings, used as encoders.

Invariants: they are used up to the token vectors and no further, so that pooling is ours; what they
raise is logged and told as an unfit model, because their code is not written for other readers.
"""

import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import mlx.core as mx
import mlx.nn as nn

from mlx_serve_common.errors import ErrorCode, ServeError

log = logging.getLogger(__name__)

T = TypeVar("T")

Forward = Callable[[Any, mx.array, mx.array | None], Any]
"""From a model, token ids and a mask of the real tokens to the token vectors."""


class LibraryEncoder:
    """Owns a ``Model``; made of its ``ModelArgs``."""

    def __init__(self, module: ModuleType, config: dict[str, Any], forward: Forward) -> None:
        arguments = guarded("config.json", module.ModelArgs.from_dict, dict(config))
        self.model: nn.Module = guarded("config.json", module.Model, arguments)
        self._forward = forward
        self.vocab_size = _number("vocab_size", arguments, config)
        self.positions = _number("max_position_embeddings", arguments, config)
        self.dimensions = _number("hidden_size", arguments, config)
        # Nothing is computed for this: shapes are known beforehand.
        shape = self(mx.zeros((1, 2), mx.int32), None).shape
        if shape != (1, 2, self.dimensions):
            raise _unfit(f"the model gives {shape} for two tokens of {self.dimensions} dimensions")

    def __call__(self, token_ids: mx.array, mask: mx.array | None) -> mx.array:
        hidden = guarded("the model", self._forward, self.model, token_ids, mask)
        if not isinstance(hidden, mx.array):
            raise _unfit("the model gives no vectors for tokens")
        return hidden

    def parameters(self) -> Any:
        return self.model.parameters()

    def update(self, parameters: Any) -> Any:
        return self.model.update(parameters)

    def sanitize(self, stored: dict[str, mx.array]) -> dict[str, mx.array]:
        """Stored values by the names of the model's parameters, in their shapes."""
        sanitize = getattr(self.model, "sanitize", None)
        if sanitize is None:
            return stored
        return guarded("the weights", sanitize, dict(stored))

    def is_needed(self, name: str) -> bool:
        """Whether the token vectors can depend on that parameter, as far as its name tells."""
        return not hasattr(self.model, "model") or name.startswith("model.")


class LanguageModels:
    """A module with the ``Model`` and ``ModelArgs`` of a causal language model, as mlx-lm has."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def build(self, config: dict[str, Any]) -> LibraryEncoder:
        return LibraryEncoder(self._module, config, _before_the_head)


def _before_the_head(model: Any, token_ids: mx.array, mask: mx.array | None) -> Any:
    # Padding is on the right, where a causal model never looks.
    return model.model(token_ids)


def guarded(what: str, call: Callable[..., T], *arguments: Any) -> T:
    try:
        return call(*arguments)
    except ServeError:
        raise
    except Exception as error:
        log.exception("a model class failed")
        raise _unfit(
            f"{what} cannot be used by the model's code ({type(error).__name__}); the log says more"
        ) from None


def _number(name: str, arguments: Any, config: dict[str, Any]) -> int:
    value = getattr(arguments, name, config.get(name))
    if not isinstance(value, int) or not 0 < value < 2**24:
        raise _unfit(f"config.json has no usable {name}")
    return value


def _unfit(message: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_MODEL, message)

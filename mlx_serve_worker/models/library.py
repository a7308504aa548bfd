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
        self.model.eval()
        self._forward = forward
        self.vocab_size = _number("vocab_size", arguments, config)
        self.positions = _number("max_position_embeddings", arguments, config)
        self.dimensions = _number("hidden_size", arguments, config)
        _check_shape(self, self.dimensions)

    def __call__(self, token_ids: mx.array, mask: mx.array | None) -> mx.array:
        hidden: mx.array = self._forward(self.model, token_ids, mask)
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


class CustomEncoders:
    """A module with ``build`` and ``parameter_name``, as our own have, written by somebody else."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self.parameter_name: Callable[[str], str | None] = module.parameter_name

    def build(self, config: dict[str, Any]) -> Any:
        encoder: Any = guarded("config.json", self._module.build, dict(config))
        # Or what is left out by chance in training would be left out here.
        guarded("the model", encoder.eval)
        for name in ("vocab_size", "positions", "dimensions"):
            _number(name, encoder, {})
        _check_shape(encoder, encoder.dimensions)
        return encoder

    def decisions(self, config: dict[str, Any]) -> dict[str, str]:
        tell = getattr(self._module, "decisions", None)
        return {} if tell is None else guarded("config.json", tell, dict(config))


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


def _check_shape(encoder: Any, dimensions: int) -> None:
    # Nothing is computed for this: shapes are known beforehand.
    hidden = guarded("the model", encoder, mx.zeros((1, 2), mx.int32), None)
    shape = getattr(hidden, "shape", None)
    if shape != (1, 2, dimensions):
        raise _unfit(f"the model gives {shape} for two tokens of {dimensions} dimensions")


def _number(name: str, arguments: Any, config: dict[str, Any]) -> int:
    value = getattr(arguments, name, config.get(name))
    if not isinstance(value, int) or not 0 < value < 2**24:
        raise _unfit(f"the model has no usable {name}")
    return value


def _unfit(message: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_MODEL, message)

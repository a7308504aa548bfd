"""A causal language model whole, in the style of mlx-lm: from token ids to the logits of the next.

Invariants: nothing is allocated that the files do not hold, because ``config.json`` is checked for
numbers that no model has, and MLX computes lazily; what the model's code raises is logged and told
as an unfit model.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker.models.library import guarded

# By a part of the key: what is built in a Python loop.
_MOST = {"layer": 1000, "expert": 4096, "head": 65536}
_MOST_ELEMENTS = 4096
_FLOATS = {"Infinity": float("inf"), "-Infinity": float("-inf"), "NaN": float("nan")}


class LanguageModel:
    """Owns a ``Model``; made of its ``ModelArgs``."""

    def __init__(self, module: ModuleType, config: Mapping[str, Any]) -> None:
        _refuse_excess(config)
        arguments = guarded("config.json", module.ModelArgs.from_dict, _with_floats(config))
        self.model: nn.Module = guarded("config.json", module.Model, arguments)
        self.model.eval()

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
        return True

    def new_cache(self) -> list[Any]:
        """What remembers a conversation: one object for each layer that remembers anything."""
        from mlx_lm.models.cache import make_prompt_cache

        cache: list[Any] = guarded("the model", make_prompt_cache, self.model)
        return cache

    def logits(self, token_ids: mx.array, cache: list[Any]) -> mx.array:
        """Of every token's successor."""
        found = guarded("the model", lambda: self.model(token_ids, cache=cache))
        shape = getattr(found, "shape", None)
        if shape is None or shape[:-1] != token_ids.shape:
            raise _unfit(f"the model gives {shape} for tokens of the shape {token_ids.shape}")
        logits: mx.array = found
        return logits

    def parameter_count(self) -> int:
        """As if nothing were quantized."""
        return sum(_parameters(layer) for _, layer in self.model.named_modules())


def _parameters(layer: Any) -> int:
    own = {name: value for name, value in layer.items() if isinstance(value, mx.array)}
    if "scales" not in own:
        return sum(value.size for value in own.values())
    packed = own["weight"].size * 8 * own["weight"].itemsize // layer.bits
    return int(packed) + (own["bias"].size if "bias" in own else 0)


def _refuse_excess(config: Mapping[str, Any]) -> None:
    for key, value in config.items():
        most = next((most for part, most in _MOST.items() if part in key), None)
        if most is not None and isinstance(value, int) and value > most:
            raise _unfit(f"config.json: {key[:80]} is more than {most}")
        if isinstance(value, list) and len(value) > _MOST_ELEMENTS:
            raise _unfit(f"config.json: {key[:80]} has {len(value)} elements")
        if isinstance(value, str) and "pattern" in key and len(value) > _MOST["layer"]:
            raise _unfit(f"config.json: {key[:80]} is too long")
        if isinstance(value, dict):
            _refuse_excess(value)


def _with_floats(value: Any) -> Any:
    """Floats that JSON cannot say, as transformers writes them."""
    if isinstance(value, Mapping):
        if value.keys() == {"__float__"}:
            return _FLOATS.get(value["__float__"])
        return {key: _with_floats(each) for key, each in value.items()}
    return [_with_floats(each) for each in value] if isinstance(value, list) else value


def _unfit(message: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_MODEL, message)

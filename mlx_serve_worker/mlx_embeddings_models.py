"""Architectures that only mlx-embeddings knows: its model classes, our pooling and our checks.

The only module that imports mlx-embeddings, which is licensed under the GPL. Invariants: the class
is used up to the token vectors, because what it pools and scales itself differs from the reference
for many models; its results are not compared with any reference, and the manifest says so.
"""

import dataclasses
import importlib
import pkgutil
from types import ModuleType
from typing import Any

import mlx.core as mx

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker.bare_packages import bare_package
from mlx_serve_worker.models.library import LibraryEncoder, guarded


class Fallback:
    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def build(self, config: dict[str, Any]) -> LibraryEncoder:
        if "vision_config" in config:
            raise _unfit("models that also read images are not supported")
        return LibraryEncoder(self._module, self._with_rope(config), _hidden_states)

    def _with_rope(self, config: dict[str, Any]) -> dict[str, Any]:
        """What the library would otherwise replace by its own defaults without a word."""
        known = {field.name for field in dataclasses.fields(self._module.ModelArgs)}
        stated = config.get("rope_parameters")
        if "rope_parameters" in known or "rope_theta" not in known:
            return config
        if not isinstance(stated, dict):
            if "rope_theta" not in config:
                raise _unfit("config.json has no rope_theta")
            return config
        scaling = None if stated.get("rope_type", "default") == "default" else stated
        flat = {"rope_theta": stated.get("rope_theta", config.get("rope_theta"))}
        if flat["rope_theta"] is None or (scaling and "rope_scaling" not in known):
            raise _unfit("config.json has rope_parameters that mlx-embeddings cannot use")
        return {**config, **flat, "rope_scaling": scaling}


def _hidden_states(model: Any, token_ids: mx.array, mask: mx.array | None) -> Any:
    real = mx.ones(token_ids.shape, mx.int32) if mask is None else mask.astype(mx.int32)
    # By position: the parameters have different names in its classes.
    return model(token_ids, real).last_hidden_state


def find(model_type: str) -> Fallback | None:
    """The library's code for models of that type; None if it has none."""
    try:
        for package in ("mlx_lm", "mlx_embeddings"):
            bare_package(package)
        import mlx_embeddings.models as models
    except ModuleNotFoundError:
        return None
    name = model_type.replace("-", "_")
    if name not in {module.name for module in pkgutil.iter_modules(models.__path__)}:
        return None
    module = guarded("mlx-embeddings", importlib.import_module, f"{models.__name__}.{name}")
    return Fallback(module) if hasattr(module, "Model") and hasattr(module, "ModelArgs") else None


def _unfit(message: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_MODEL, message)

"""Which code runs a chat model: mlx-lm's for the types it knows, a person's own for others.

Invariants: a name from a model's files is only ever looked up in the list of the models that mlx-lm
brings, and nothing else of mlx-lm can be named; what mlx-lm brings is refused rather than shadowed.
"""

import functools
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import Implementation
from mlx_serve_worker import custom_models as custom


class ChatCode(NamedTuple):
    module: ModuleType
    """Has ``Model`` and ``ModelArgs``."""
    implementation: Implementation
    decided_by: str


def choose(config: dict[str, Any], custom_models: Path | None) -> ChatCode:
    """The code for a model that is about to be installed."""
    model_type = str(config.get("model_type"))
    if module := _of_mlx_lm(config):
        custom.refuse_shadow(model_type, custom_models)
        return ChatCode(module, "mlx_lm", f"config.json: model_type; {module.__name__}")
    if found := custom.find_custom(model_type, custom_models):
        return ChatCode(_checked(*found), "custom", found[1])
    raise _unfit(
        f"chat models of type {model_type[:64]!r} cannot be served: mlx-lm does not know them;"
        " docs/custom-models.md tells how to add them"
    )


def installed(
    config: dict[str, Any], implementation: Implementation, custom_models: Path | None
) -> ModuleType:
    """The code that a model was installed with."""
    model_type = str(config.get("model_type"))
    if implementation != "custom":
        if module := _of_mlx_lm(config):
            return module
        raise _unfit(f"this version of mlx-lm has no models of type {model_type[:64]!r}")
    if found := custom.find_custom(model_type, custom_models):
        return _checked(*found)
    raise _unfit(
        f"the model was installed with a custom architecture {model_type[:64]!r}, which is gone"
    )


def _of_mlx_lm(config: dict[str, Any]) -> ModuleType | None:
    from mlx_serve_worker.mlx_lm_rules import model_name  # all of mlx-lm comes with it

    name = model_name(config)
    if name not in _module_names():
        return None
    try:
        module = importlib.import_module(f"mlx_lm.models.{name}")
    except (ImportError, SystemExit):  # one of them ends the process when it misses a package
        raise _unfit(f"mlx-lm's {name!r} needs a package that is not installed") from None
    return module if _is_model(module) else None


@functools.cache
def _module_names() -> frozenset[str]:
    import mlx_lm.models

    return frozenset(module.name for module in pkgutil.iter_modules(mlx_lm.models.__path__))


def _checked(module: ModuleType, place: str) -> ModuleType:
    if not _is_model(module):
        raise _unfit(f"{place} offers no Model and ModelArgs, as a chat model needs them")
    return module


def _is_model(module: ModuleType) -> bool:
    # Some modules of mlx-lm's list are parts of models.
    return hasattr(module, "Model") and hasattr(module, "ModelArgs")


def _unfit(message: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_MODEL, message)

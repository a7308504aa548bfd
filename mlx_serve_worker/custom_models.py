"""Architectures that a person adds: a Python file in their folder, or an installed package.

Invariants: only the person's own folder and installed packages are looked at, never a folder of a
model; a name that this project has itself is refused rather than shadowed.
"""

import importlib.util
import logging
import os
import re
import stat
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_worker.bare_packages import bare_package

ENTRY_POINTS = "mlx_serve.architectures"

log = logging.getLogger(__name__)


def custom_file(model_type: str, folder: Path | None) -> Path | None:
    """The file for models of that type, if the folder has one: what is no letter or digit is _."""
    if folder is None:
        return None
    path = folder / f"{re.sub(r'[^A-Za-z0-9_]', '_', model_type)}.py"
    return path if path.is_file() else None


def find_custom(model_type: str, folder: Path | None) -> tuple[ModuleType, str] | None:
    """The module for models of that type, and where it is from."""
    path = custom_file(model_type, folder)
    installed = _entry_points(model_type)
    if len(installed) + (path is not None) > 1:
        places = [*installed, *([f"custom_models/{path.name}"] if path else [])]
        raise _unfit(f"more than one module offers {model_type[:64]!r}: {', '.join(places)}")
    if path is not None:
        return _load(path), f"custom_models/{path.name}"
    if installed:
        return _import(model_type), f"entry point: {installed[0]}"
    return None


def refuse_shadow(model_type: str, folder: Path | None) -> None:
    """``model_type`` is one of our own."""
    path = custom_file(model_type, folder)
    names = [f"custom_models/{path.name}"] if path else _entry_points(model_type)
    if names:
        raise _unfit(
            f"{names[0]} offers {model_type!r}, which is built in; rename it, and the model_type in"
            " the model's config.json"
        )


def _entry_points(model_type: str) -> list[str]:
    from importlib.metadata import entry_points

    return [point.value for point in entry_points(group=ENTRY_POINTS, name=model_type)]


def _import(model_type: str) -> ModuleType:
    from importlib.metadata import entry_points

    (point,) = entry_points(group=ENTRY_POINTS, name=model_type)
    try:
        module = point.load()
    except Exception as error:
        raise _failed(point.value, error) from None
    if not isinstance(module, ModuleType):
        raise _unfit(f"{point.value} is no module")
    return module


def _load(path: Path) -> ModuleType:
    # Such files often take pieces from mlx-lm's models, and need not pay for all of mlx-lm.
    with suppress(ModuleNotFoundError):
        bare_package("mlx_lm")
    for each in (path, path.parent):
        found = each.stat()
        if found.st_uid not in (os.getuid(), 0) or found.st_mode & stat.S_IWOTH:
            raise _unfit(f"custom_models/{path.name} is not run: others can change it")
    name = f"mlx_serve_custom_models.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "a path that ends with .py has a loader"
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up here.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _failed(f"custom_models/{path.name}", error) from None
    return module


def _failed(what: str, error: Exception) -> ServeError:
    log.error("%s cannot be loaded", what, exc_info=error)
    return _unfit(f"{what} cannot be loaded ({type(error).__name__}); the log says more")


def _unfit(message: str) -> ServeError:
    return ServeError(ErrorCode.INVALID_MODEL, message)

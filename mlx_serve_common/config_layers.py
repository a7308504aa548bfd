"""Loading the configuration: defaults < key file < file < environment < command line.

Invariants: every value is checked in the layer that gives it, also one that a later layer
replaces; a list or mapping is replaced whole; every key of the result has an origin.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from mlx_serve_common.admin_key import read_admin_key
from mlx_serve_common.config import Config, conflicts
from mlx_serve_common.config_file import read_config_file
from mlx_serve_common.logs import escape
from mlx_serve_common.settings import KEYS, Key, Layer, Setting, checked

FILE_NAME = "config.yaml"
KEY_FILE_NAME = "admin.key"
DEFAULT_ORIGIN = "default"

_PREFIX = "MLX_SERVE_"
# A variable is MLX_SERVE_SECTION_KEY; these sections and keys have a shorter or older name.
_SECTION_NAMES = {"server": "", "logging": "LOG_"}
_KEY_NAMES = {"models.directory": "MODELS_DIR", "models.preload": "PRELOAD_MODELS"}
# Variables that are ours but no part of the configuration.
_OTHER_VARIABLES = frozenset(
    {
        "MLX_SERVE_BLAS",
        "MLX_SERVE_HOME",
        "MLX_SERVE_INSTANCE",
        "MLX_SERVE_OPENBLAS_CORETYPE",
        "MLX_SERVE_FAULT",
        "MLX_SERVE_TEST_BACKENDS",
    }
)


def variable_of(name: str) -> str:
    """The environment variable of a dotted key."""
    section, _, leaf = name.partition(".")
    section_name = _SECTION_NAMES.get(section, f"{section.upper()}_")
    return _PREFIX + _KEY_NAMES.get(name, f"{section_name}{leaf.upper()}")


VARIABLES = MappingProxyType({variable_of(name): key for name, key in KEYS.items()})


class LoadedConfig(msgspec.Struct, frozen=True):
    """The configuration, where each key comes from, and what the user should hear about it."""

    config: Config
    origins: dict[str, str]
    warnings: tuple[str, ...]
    file: Path | None


def load_config(
    home: Path,
    *,
    environ: Mapping[str, str],
    file: Path | None = None,
    overrides: Mapping[str, Setting] = MappingProxyType({}),
) -> LoadedConfig:
    """Load and merge all layers, or raise ConfigError for the first thing that is wrong.

    ``file`` must exist when it is given; else ``config.yaml`` of the home folder is read if there
    is one. ``overrides`` are the command line's settings by dotted key; None counts as not given.
    """
    path = file or home / FILE_NAME
    present = file is not None or _is_there(path)
    file_layer, warnings = read_config_file(path) if present else ({}, [])
    key_file = home / KEY_FILE_NAME
    key_layer = read_admin_key(key_file) if _is_there(key_file) else {}
    env_layer, unknown = _environment_layer(environ)
    given = {name: setting for name, setting in overrides.items() if setting.value is not None}
    cli_layer = {name: checked(name, setting) for name, setting in given.items()}

    settings = key_layer | file_layer | env_layer | cli_layer
    config = _built(settings, home)
    for names, message in conflicts(config):
        name = next(name for name in names if name in settings)
        raise settings[name].refused(name, message)
    origins = {name: settings[name].origin if name in settings else DEFAULT_ORIGIN for name in KEYS}
    return LoadedConfig(config, origins, (*warnings, *unknown), path if present else None)


def default_config(home: Path) -> Config:
    """What holds where nothing is configured."""
    return _built({}, home)


def _is_there(path: Path) -> bool:
    """Only a missing file may be passed over: one that cannot be reached is an error to report."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _environment_layer(environ: Mapping[str, str]) -> tuple[Layer, list[str]]:
    """The settings of the environment; a variable that is empty counts as not set."""
    layer: Layer = {}
    warnings: list[str] = []
    for variable, text in sorted(environ.items()):
        if not variable.startswith(_PREFIX) or variable in _OTHER_VARIABLES:
            continue
        key = VARIABLES.get(variable)
        if key is None:
            near = difflib.get_close_matches(variable, VARIABLES, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            warnings.append(f"{escape(variable)} is not a setting and is ignored{hint}")
        elif text.strip():
            setting = Setting(text.strip(), variable)
            value = _entries(key, setting)
            setting = msgspec.structs.replace(setting, value=value)
            layer[key.name] = checked(key.name, setting, strict=False)
    return layer, warnings


def _entries(key: Key, setting: Setting) -> Any:
    """A list is written ``a,b``, a mapping ``name=model,other=model``; the rest is left as text."""
    if not (key.is_list or key.is_mapping):
        return setting.value
    parts = [part.strip() for part in setting.value.split(",") if part.strip()]
    if key.is_list:
        return parts
    pairs = [part.partition("=") for part in parts]
    wrong = next((part for part, equals, _ in pairs if not equals), None)
    if wrong is not None:
        message = f"expected name=model, separated by commas, got {wrong!r}"
        raise setting.refused(key.name, message)
    return {name.strip(): model.strip() for name, _, model in pairs}


def _built(settings: Mapping[str, Setting], home: Path) -> Config:
    tree: dict[str, dict[str, Any]] = {}
    for name, key in KEYS.items():
        setting = settings.get(name, Setting(key.default, DEFAULT_ORIGIN))
        value = setting.value
        if key.is_path:
            try:
                value = str(home / Path(value).expanduser())
            except RuntimeError:
                raise setting.refused(name, f"{value} names a user who does not exist") from None
        section, _, leaf = name.partition(".")
        tree.setdefault(section, {})[leaf] = value
    return msgspec.convert(tree, Config)

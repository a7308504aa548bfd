"""The configuration as a command needs it: loaded in layers, and wrong ones told in one line.

Invariants: a path given on the command line is relative to where the person stands, one in the
configuration to the home folder.
"""

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode
from mlx_serve_gateway.cli.output import note

if TYPE_CHECKING:
    from mlx_serve_common.config import Config
    from mlx_serve_common.config_layers import LoadedConfig

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])

# A flag and the value given for it; None or () counts as not given.
Flag = tuple[str, Any]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE}


def config_option(command: _Decorated) -> _Decorated:
    option = click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Configuration file instead of config.yaml in the home folder.",
    )
    return option(command)


def load(
    home: Path, config_file: Path | None, flags: Mapping[str, Flag] | None = None
) -> "LoadedConfig":
    """The merged configuration, or CommandFailed with file, line and key (exit code 78)."""
    from mlx_serve_common.settings import ConfigError

    try:
        return read(home, config_file, flags or {})
    except ConfigError as error:
        raise CommandFailed(str(error), ExitCode.CONFIG) from None


def read(home: Path, config_file: Path | None, flags: Mapping[str, Flag]) -> "LoadedConfig":
    """The same, or ConfigError."""
    from mlx_serve_common.config_layers import load_config
    from mlx_serve_common.settings import Setting

    given = {key: Setting(value, flag) for key, (flag, value) in flags.items() if value != ()}
    file = None if config_file is None else config_file.expanduser().absolute()
    return load_config(home, environ=os.environ, file=file, overrides=given)


def load_or_defaults(home: Path, config_file: Path | None, *, needed: bool) -> "Config":
    """For commands that must work beside a broken file too: unless ``needed``, say so and go on."""
    from mlx_serve_common.config_layers import default_config

    try:
        return load(home, config_file).config
    except CommandFailed as error:
        if needed:
            raise
        note(f"warning: {error.message}")
        return default_config(home)


def make_folder(path: Path) -> Path:
    """A private folder of ours, or CommandFailed naming it."""
    from mlx_serve_common.paths import private_directory

    try:
        return private_directory(path)
    except OSError as error:
        raise CommandFailed(unusable(path, error), exit_code_of(error)) from None


def unusable(path: Path, error: OSError) -> str:
    return (
        f"{path} cannot be used: {error.strerror or error} (MLX_SERVE_HOME chooses the home folder)"
    )


def exit_code_of(error: OSError) -> ExitCode:
    return ExitCode.TEMPORARY if error.errno in _FULL else ExitCode.CONFIG

"""What a command line asks of the configuration: the flags, and the same said once more.

Invariants: a path is relative to where the person stands; None and empty are left to the
configuration.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from mlx_serve_gateway.cli.completion import model_names
from mlx_serve_gateway.cli.configuration import Flag, config_option, load, read
from mlx_serve_gateway.cli.output import note

if TYPE_CHECKING:
    from mlx_serve_common.config import Config
    from mlx_serve_common.config_layers import LoadedConfig

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--host", metavar="ADDRESS", help="Address to listen on (server.host)."),
    click.option(
        "--port", type=click.IntRange(0, 65535), help="Port, 0 for any free one (server.port)."
    ),
    click.option(
        "--preload",
        multiple=True,
        metavar="MODEL",
        shell_complete=model_names,
        help="Load this model at once; repeatable.",
    ),
    click.option(
        "--model-name",
        metavar="MODEL",
        shell_complete=model_names,
        help="Chat model for requests that name none, or none that is known (chat.default_model).",
    ),
    click.option(
        "--models-dir",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Folder of the installed models (models.directory).",
    ),
)


def setting_options(command: _Decorated) -> _Decorated:
    """The flags that are settings, and the configuration file; they make up a ``Request``."""
    command = config_option(command)
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


class Request(NamedTuple):
    host: str | None = None
    port: int | None = None
    preload: tuple[str, ...] = ()
    model_name: str | None = None
    models_dir: Path | None = None
    config_file: Path | None = None

    def load(self) -> "LoadedConfig":
        """The configuration with these flags; its warnings are told."""
        from mlx_serve_common.paths import home

        loaded = load(home(), self.config_file, self._flags())
        for warning in loaded.warnings:
            note(f"warning: {warning}")
        return loaded

    def read_again(self) -> "Config":
        """As it is now; ConfigError if it is wrong by now."""
        from mlx_serve_common.paths import home

        return read(home(), self.config_file, self._flags()).config

    def _flags(self) -> dict[str, Flag]:
        models_dir = _absolute(self.models_dir)
        return {
            "server.host": ("--host", self.host),
            "server.port": ("--port", self.port),
            "models.preload": ("--preload", self.preload),
            "chat.default_model": ("--model-name", self.model_name),
            "chat.default_for_unknown": ("--model-name", self.model_name and True),
            "models.directory": ("--models-dir", models_dir and str(models_dir)),
        }

    def arguments(self) -> list[str]:
        """The request as a command line that means the same in any folder."""
        given = {
            "--host": self.host,
            "--port": self.port,
            "--model-name": self.model_name,
            "--models-dir": _absolute(self.models_dir),
            "--config": _absolute(self.config_file),
        }
        # One argument each: a value may begin with a dash.
        arguments = [f"{flag}={value}" for flag, value in given.items() if value is not None]
        return arguments + [f"--preload={model}" for model in self.preload]


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.expanduser().absolute()

"""``start`` as a whole: the request, and the three processes that may carry it out.

Invariants: the configuration is checked before anything is spawned, and the detached server reads
it again from the same flags, so that it is never passed on in another form.
"""

import traceback
from pathlib import Path
from typing import NamedTuple

from mlx_serve_common.config_layers import LoadedConfig
from mlx_serve_common.paths import home
from mlx_serve_gateway.cli import background, foreground
from mlx_serve_gateway.cli.announcement import Announcement, Pipe, tell_terminal
from mlx_serve_gateway.cli.configuration import load, make_folder
from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode
from mlx_serve_gateway.cli.output import note


class Request(NamedTuple):
    """What the command line asks for; None and empty are left to the configuration."""

    host: str | None = None
    port: int | None = None
    preload: tuple[str, ...] = ()
    models_dir: Path | None = None
    config_file: Path | None = None


def start(request: Request, in_foreground: bool, announce_to: int | None) -> int:
    if announce_to is not None:
        return _start_announced(request, Pipe(announce_to))
    loaded = _load(request)
    if in_foreground:
        return foreground.serve(loaded.config, make_folder(home()), tell_terminal)
    return background.start(loaded.config, make_folder(home()), _arguments(request))


def _start_announced(request: Request, pipe: Pipe) -> int:
    """The detached process: whatever happens, who waits at the pipe hears of it."""
    try:
        config = _load(request).config
        return foreground.serve(config, make_folder(home()), pipe.tell, detached=True)
    except CommandFailed as error:
        pipe.tell(Announcement(kind="failed", message=error.message, code=error.code))
        raise
    except Exception as error:
        last = traceback.format_exception_only(error)[-1].strip()
        message = f"internal error: {last}; the log has more"
        pipe.tell(Announcement(kind="failed", message=message, code=ExitCode.INTERNAL))
        raise


def _load(request: Request) -> LoadedConfig:
    models_dir = _absolute(request.models_dir)
    loaded = load(
        home(),
        request.config_file,
        {
            "server.host": ("--host", request.host),
            "server.port": ("--port", request.port),
            "models.preload": ("--preload", request.preload),
            "models.directory": ("--models-dir", models_dir and str(models_dir)),
        },
    )
    for warning in loaded.warnings:
        note(f"warning: {warning}")
    return loaded


def _arguments(request: Request) -> list[str]:
    """The request as a command line that means the same in any folder."""
    given = {
        "--host": request.host,
        "--port": request.port,
        "--models-dir": _absolute(request.models_dir),
        "--config": _absolute(request.config_file),
    }
    # One argument each: a value may begin with a dash.
    arguments = [f"{flag}={value}" for flag, value in given.items() if value is not None]
    return arguments + [f"--preload={model}" for model in request.preload]


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.expanduser().absolute()

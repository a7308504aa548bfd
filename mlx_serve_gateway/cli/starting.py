"""``start`` as a whole: the three processes that may carry a request out.

Invariants: the configuration is checked before anything is spawned, and the detached server reads
it again from the same flags, so that it is never passed on in another form.
"""

import traceback
from functools import partial
from pathlib import Path

from mlx_serve_common.paths import home, log_file
from mlx_serve_gateway.cli import background, foreground
from mlx_serve_gateway.cli.announcement import Announcement, Pipe, Tell
from mlx_serve_gateway.cli.configuration import make_folder
from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode
from mlx_serve_gateway.cli.requested import Request


def start(
    request: Request, in_foreground: bool, announce_to: int | None, log: Path | None, tell: Tell
) -> int:
    if announce_to is not None:
        return _start_announced(request, Pipe(announce_to))
    if log is not None:
        # Now: launchd starts a server with a wrong configuration again and again.
        log = log.expanduser().absolute()
        foreground.receive_output(log)
    loaded = request.load()
    if in_foreground:
        log_of = None if log is None else lambda port: log
        return foreground.serve(
            loaded.config, request.read_again, make_folder(home()), tell, log_of
        )
    return background.start(loaded.config, make_folder(home()), request.arguments(), tell)


def _start_announced(request: Request, pipe: Pipe) -> int:
    """The detached process: whatever happens, who waits at the pipe hears of it."""
    try:
        config = request.load().config
        log_of = partial(log_file, home())
        return foreground.serve(config, request.read_again, make_folder(home()), pipe.tell, log_of)
    except CommandFailed as error:
        pipe.tell(Announcement(kind="failed", message=error.message, code=error.code))
        raise
    except Exception as error:
        last = traceback.format_exception_only(error)[-1].strip()
        message = f"internal error: {last}; the log has more"
        pipe.tell(Announcement(kind="failed", message=message, code=ExitCode.INTERNAL))
        raise

"""The frame around every command of ours: streams that cannot fail, and honest exit codes.

Invariants: a command returns its exit code; nobody else calls ``sys.exit``.
"""

import os
import sys
import traceback
from typing import Any, NoReturn

import click

from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode
from mlx_serve_gateway.cli.output import note


def run(command: click.Command, prog_name: str, **context: Any) -> NoReturn:
    """Run the command line and exit."""
    _open_standard_streams()
    sys.exit(_exit_code(command, prog_name, context))


def _exit_code(command: click.Command, prog_name: str, context: dict[str, Any]) -> int:
    try:
        returned = command.main(prog_name=prog_name, standalone_mode=False, **context)
        return int(returned or ExitCode.OK)
    except click.Abort:
        return ExitCode.INTERRUPTED
    except CommandFailed as error:
        note(f"{prog_name}: {error.message}")
        return error.code
    except click.UsageError as error:
        error.show()
        return ExitCode.USAGE
    except click.ClickException as error:
        note(f"{prog_name}: {error.format_message()}")
        return error.exit_code
    except Exception:
        note(traceback.format_exc().rstrip())
        note(f"{prog_name}: internal error; please report the lines above")
        return ExitCode.INTERNAL


def _open_standard_streams() -> None:
    # A descriptor that was closed by the caller would be given to the next file that we open,
    # and what a library prints would land in it.
    for expected in (0, 1, 2):
        try:
            os.fstat(expected)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

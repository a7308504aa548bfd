"""``mlx-serve copy``: an installed model under a second name."""

from pathlib import Path

import click

from mlx_serve_gateway.cli.completion import model_names
from mlx_serve_gateway.cli.configuration import config_option
from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode


@click.command()
@click.argument("source", metavar="SRC", shell_complete=model_names)
@click.argument("name", metavar="DST")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def copy(source: str, name: str, as_json: bool, config_file: Path | None) -> int:
    """Install the model SRC once more, named DST.

    The two share their files on disk, and either can be removed. Exit codes: 0 copied; 1 there is
    no such model, it is damaged, or DST is taken.
    """
    from mlx_serve_common.errors import ServeError
    from mlx_serve_common.logs import escape
    from mlx_serve_common.store_changes import copy_model
    from mlx_serve_gateway.cli.output import emit_json, note
    from mlx_serve_gateway.cli.show import find_installed

    installed = find_installed(source, config_file)
    try:
        made = copy_model(installed.path.parent, installed.path.name, name)
    except ServeError as error:
        raise CommandFailed(escape(error.message)) from None
    except OSError as error:
        message = f"{installed.path} cannot be copied: {error.strerror or error}"
        raise CommandFailed(message, ExitCode.TEMPORARY) from None
    if as_json:
        emit_json({"source": installed.name, "name": made.name})
    else:
        note(f"copied {installed.name} to {made.name}")
    return ExitCode.OK

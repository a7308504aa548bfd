"""``mlx-serve show``: all that is known of one installed model."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlx_serve_gateway.cli.completion import model_names
from mlx_serve_gateway.cli.configuration import config_option
from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode

if TYPE_CHECKING:
    from mlx_serve_common.models import InstalledModel


@click.command()
@click.argument("model", metavar="MODEL", shell_complete=model_names)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def show(model: str, as_json: bool, config_file: Path | None) -> int:
    """Show what MODEL is, and how that was decided.

    Also what its verification found. MODEL may be any name that a request may use; the JSON is that
    of POST /api/show. Exit codes: 0 shown; 1 there is no such model.
    """
    from mlx_serve_gateway.cli.model_facts import fact_lines
    from mlx_serve_gateway.cli.output import emit_facts, emit_json
    from mlx_serve_gateway.http.ollama_entries import shown

    found = find_installed(model, config_file)
    if as_json:
        emit_json(shown(found))
    else:
        emit_facts(fact_lines(found))
    return ExitCode.OK


def find_installed(name: str, config_file: Path | None) -> "InstalledModel":
    """The installed model of that name, or CommandFailed."""
    import logging

    from mlx_serve_common.errors import ServeError
    from mlx_serve_common.logs import escape
    from mlx_serve_common.paths import home
    from mlx_serve_gateway.cli.configuration import load
    from mlx_serve_gateway.registry import Registry

    # The registry would warn of other models, which nobody asked for here.
    logging.getLogger().addHandler(logging.NullHandler())
    models = load(home(), config_file).config.models
    registry = Registry(Path(models.directory), models.aliases)
    try:
        return registry.find(name)
    except ServeError:
        why = dict(registry.broken()).get(name, "`mlx-serve list` shows what is installed")
        raise CommandFailed(f"there is no model {escape(name)!r}: {escape(why)}") from None

"""``mlx-serve remove``: installed models off the disk, and out of the servers that have them.

Invariants: a server of this home that has the model loaded removes it itself, after what was asked
of it is done; whatever happens to one model, the others are seen to.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlx_serve_gateway.cli.completion import model_names
from mlx_serve_gateway.cli.configuration import config_option
from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode

if TYPE_CHECKING:
    from mlx_serve_gateway.registry import Registry


@click.command("remove")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, shell_complete=model_names)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def remove(models: tuple[str, ...], as_json: bool, config_file: Path | None) -> int:
    """Remove installed models; also as `rm`.

    A running server that has MODEL loaded first finishes what was asked of it. Damaged models, as
    ``mlx-serve list`` tells of them, can be removed as well.

    Exit codes: 0 all are removed; 1 one could not be, or there is no such model.
    """
    import logging

    from mlx_serve_common.logs import escape
    from mlx_serve_common.paths import home
    from mlx_serve_gateway.cli.configuration import load
    from mlx_serve_gateway.cli.output import emit_json, note
    from mlx_serve_gateway.registry import Registry

    # The registry would warn of damaged models, which is no news to who removes one.
    logging.getLogger().addHandler(logging.NullHandler())
    here = home()
    settings = load(here, config_file).config.models
    registry = Registry(Path(settings.directory), settings.aliases)
    removed: list[str] = []
    failed: dict[str, str] = {}
    for given in dict.fromkeys(models):
        try:
            name = _removed(given, registry, Path(settings.directory), here)
        except CommandFailed as error:
            failed[given] = error.message
            note(f"mlx-serve: {error.message}")
            continue
        removed.append(name)
        if not as_json:
            note(f"removed {escape(name)}")
    if as_json:
        emit_json({"removed": removed, "failed": failed})
    return ExitCode.FAILED if failed else ExitCode.OK


rm = click.Command(
    "rm", callback=remove.callback, params=remove.params, help=remove.help, hidden=True
)


def _removed(given: str, registry: "Registry", models_dir: Path, home: Path) -> str:
    from mlx_serve_common.errors import ErrorCode, ServeError
    from mlx_serve_common.logs import escape
    from mlx_serve_common.store_changes import remove_model

    try:
        installed = registry.find(given)
    except ServeError:
        if given not in dict(registry.broken()):
            why = "`mlx-serve list` shows what is installed"
            raise CommandFailed(f"there is no model {escape(given)!r}: {why}") from None
        name, folder, asked = given, given, False
    else:
        name, folder = installed.name, installed.path.name
        asked = _servers_removed(name, home)
    try:
        remove_model(models_dir, folder)
    except ServeError as error:
        if not (asked and error.code is ErrorCode.MODEL_NOT_FOUND):
            raise CommandFailed(escape(error.message)) from None
    except OSError as error:
        why = error.strerror or str(error)
        raise CommandFailed(f"{escape(name)} cannot be removed: {why}") from None
    return name


def _servers_removed(name: str, home: Path) -> bool:
    """Whether a server has removed the model; CommandFailed with its words if it would not."""
    from mlx_serve_common.logs import escape
    from mlx_serve_gateway.cli.gateway_client import delete_model, read_refusal
    from mlx_serve_gateway.cli.gateway_connection import NoAnswer
    from mlx_serve_gateway.cli.instances import instances, own_gateway

    is_removed = False
    for server in instances(home):
        gateway = own_gateway(home, server.port)
        if gateway is None or not _has_loaded(server.health, name):
            continue
        try:
            status, body = delete_model(gateway, name)
        except NoAnswer:
            continue  # It keeps what it has in memory until it ends.
        if status == 200:
            is_removed = True
        elif status in (401, 403, 409):
            said = f"{gateway.url} keeps {escape(name)}: {escape(read_refusal(body).message)}"
            raise CommandFailed(said, ExitCode.FAILED)
    return is_removed


def _has_loaded(health: bytes | None, name: str) -> bool:
    from mlx_serve_gateway.cli.gateway_client import read_report

    if health is None:
        return False
    return any(worker.model == name for worker in read_report(health).workers or ())

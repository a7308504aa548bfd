"""The command ``mlx-serve-ctl``: a running gateway, here or elsewhere, over HTTP alone."""

from typing import Any

import click

from mlx_serve_gateway.cli.entry import run
from mlx_serve_gateway.cli.remote.events import events
from mlx_serve_gateway.cli.remote.looking import models, ps, status
from mlx_serve_gateway.cli.remote.memory import load, pin, unload, unpin
from mlx_serve_gateway.cli.remote.server import drain, reload
from mlx_serve_gateway.cli.remote.store import pull, remove
from mlx_serve_gateway.cli.remote.target import target_options
from mlx_serve_gateway.cli.remote.top import top
from mlx_serve_gateway.cli.version import version_option


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@target_options
@version_option
@click.pass_context
def mlx_serve_ctl(context: click.Context, /, **target: Any) -> None:
    """Administer a running gateway, here or elsewhere.

    A gateway on this machine needs no key, one elsewhere its server.admin_key. Which gateway can be
    said before the command as well as after it.
    """
    given = {name: value for name, value in target.items() if value is not None}
    context.default_map = dict.fromkeys(mlx_serve_ctl.commands, given)


for command in (
    status,
    ps,
    models,
    load,
    unload,
    pin,
    unpin,
    pull,
    remove,
    drain,
    reload,
    top,
    events,
):
    mlx_serve_ctl.add_command(command)


def main() -> None:
    run(mlx_serve_ctl, "mlx-serve-ctl")


if __name__ == "__main__":
    main()

"""The command ``mlx-llm-server``: the same daemon as ``mlx-serve start``, on a port of its own."""

from typing import Any

import click

from mlx_serve_gateway.cli.entry import run
from mlx_serve_gateway.cli.output import note
from mlx_serve_gateway.cli.serve import run_start, start_options
from mlx_serve_gateway.cli.version import version_option

PORT = 9044


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@start_options
@version_option
def mlx_llm_server(**options: Any) -> int:
    """Start the server on the port meant for chat.

    Chat is not served yet: until it is, this is `mlx-serve start --port 9044`. Stop it with
    `mlx-serve stop --port 9044`.
    """
    note("chat is not served yet; what this server answers is what mlx-serve answers")
    return run_start(**options)


def main() -> None:
    run(mlx_llm_server, "mlx-llm-server", default_map={"port": PORT})


if __name__ == "__main__":
    main()

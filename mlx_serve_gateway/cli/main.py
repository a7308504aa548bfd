"""The command ``mlx-serve``."""

import click

from mlx_serve_gateway.cli.completion import completion
from mlx_serve_gateway.cli.config import config
from mlx_serve_gateway.cli.copy import copy
from mlx_serve_gateway.cli.doctor import doctor
from mlx_serve_gateway.cli.entry import run
from mlx_serve_gateway.cli.logs import logs
from mlx_serve_gateway.cli.models import import_model, list_models
from mlx_serve_gateway.cli.ps import ps
from mlx_serve_gateway.cli.pull import pull
from mlx_serve_gateway.cli.quantize import quantize
from mlx_serve_gateway.cli.remove import remove, rm
from mlx_serve_gateway.cli.serve import start, status, stop
from mlx_serve_gateway.cli.service import service
from mlx_serve_gateway.cli.show import show
from mlx_serve_gateway.cli.verify import verify
from mlx_serve_gateway.cli.version import version_option


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@version_option
def mlx_serve() -> None:
    """A local inference server: embeddings and more, behind the HTTP APIs your tools speak."""


for command in (
    start,
    stop,
    status,
    list_models,
    show,
    verify,
    pull,
    import_model,
    quantize,
    copy,
    remove,
    rm,
    ps,
    logs,
    config,
    doctor,
    service,
    completion,
):
    mlx_serve.add_command(command)


def main() -> None:
    run(mlx_serve, "mlx-serve")


if __name__ == "__main__":
    main()

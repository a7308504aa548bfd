"""The command ``mlx-serve-ctl``: a running gateway, here or elsewhere, over HTTP alone."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlx_serve_gateway.cli.configuration import config_option
from mlx_serve_gateway.cli.entry import run
from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode
from mlx_serve_gateway.cli.version import version_option

if TYPE_CHECKING:
    import msgspec

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


def _gateway_options(command: _Decorated) -> _Decorated:
    options = (
        click.option(
            "--url", metavar="URL", help="The gateway; else this machine's, on the configured port."
        ),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        config_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@version_option
def mlx_serve_ctl() -> None:
    """Look at a running gateway."""


@mlx_serve_ctl.command()
@_gateway_options
def status(url: str | None, as_json: bool, config_file: Path | None) -> int:
    """Show how the gateway is.

    Exit codes: 0 it serves; 1 it does not answer as it should; 3 nothing listens there.
    """
    from mlx_serve_gateway.cli.gateway_client import read_report
    from mlx_serve_gateway.cli.output import emit_json
    from mlx_serve_gateway.cli.status import show_health

    url = url or _configured_url(config_file)
    report = _report(url)
    if as_json:
        emit_json(report)
    else:
        show_health(read_report(report), url)
    return ExitCode.OK


@mlx_serve_ctl.command()
@_gateway_options
def ps(url: str | None, as_json: bool, config_file: Path | None) -> int:
    """List the loaded models and their workers.

    Exit codes: as ``status``; also 1 when the gateway keeps this to its own machine.
    """
    from mlx_serve_gateway.cli.gateway_client import read_report
    from mlx_serve_gateway.cli.output import emit_json
    from mlx_serve_gateway.cli.status import show_workers

    url = url or _configured_url(config_file)
    report = _report(url)
    workers = read_report(report).workers
    if workers is None:
        raise CommandFailed(f"{url} shows its workers only to its own machine; ask there")
    if as_json:
        emit_json(report)
    else:
        show_workers(workers)
    return ExitCode.OK


def _configured_url(config_file: Path | None) -> str:
    from mlx_serve_common.paths import home
    from mlx_serve_gateway.cli.addresses import local_url
    from mlx_serve_gateway.cli.configuration import load

    server = load(home(), config_file).config.server
    return local_url(server.host, server.port)


def _report(url: str) -> "msgspec.Raw":
    from mlx_serve_gateway.cli.gateway_client import NoAnswer, health_detail

    try:
        return health_detail(url)
    except NoAnswer as silence:
        code = ExitCode.NOT_RUNNING if silence.refused else ExitCode.FAILED
        raise CommandFailed(f"{url}: {silence}", code) from None


def main() -> None:
    run(mlx_serve_ctl, "mlx-serve-ctl")


if __name__ == "__main__":
    main()

"""``mlx-serve service``: the server as a service of launchd or systemd."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


def _machine_option(command: _Decorated) -> _Decorated:
    option = click.option(
        "--daemon",
        "machine",
        is_flag=True,
        help="A service of the whole machine, which needs no login; root has to install it.",
    )
    return option(command)


@click.group()
def service() -> None:
    """Run the server as a service of launchd or systemd.

    It is a launchd agent on macOS, a systemd user unit on Linux.

    The service takes its settings from config.yaml alone, not from the environment of a terminal.
    """


@service.command()
@_machine_option
@click.option("--print", "print_only", is_flag=True, help="Only print the definition.")
def install(machine: bool, print_only: bool) -> int:
    """Define the service, or bring its definition up to date.

    Starts nothing. The service starts at login if `service.auto_start` is true in config.yaml.

    Exit codes: 0 it is installed; 1 it could not be; 78 the configuration is wrong.
    """
    from mlx_serve_gateway.cli import service_commands as commands
    from mlx_serve_gateway.cli.output import emit

    with _failures():
        if print_only:
            emit(commands.definition(machine=machine).decode().rstrip("\n"))
        elif machine:
            commands.stage_for_root()
        else:
            commands.install()
    return ExitCode.OK


@service.command()
@_machine_option
def uninstall(machine: bool) -> int:
    """Stop the service and forget it.

    Models, configuration and logs stay.
    """
    from mlx_serve_gateway.cli import service_commands as commands

    with _failures():
        if machine:
            commands.tell_root_to_remove()
        else:
            commands.uninstall()
    return ExitCode.OK


@service.command()
def start() -> int:
    """Start the service, and wait until the server answers.

    Exit codes: 0 it serves; 1 it does not; 69 the port is taken; 78 the configuration is wrong.
    """
    from mlx_serve_gateway.cli import service_commands as commands

    with _failures():
        commands.start()
    return ExitCode.OK


@service.command()
def stop() -> int:
    """Stop the service, after it has finished what it computes."""
    from mlx_serve_gateway.cli import service_commands as commands

    with _failures():
        commands.stop()
    return ExitCode.OK


@service.command()
def enable() -> int:
    """Have the service start at every login."""
    from mlx_serve_gateway.cli import service_commands as commands

    with _failures():
        commands.set_enabled(True)
    return ExitCode.OK


@service.command()
def disable() -> int:
    """Have the service start only when told to; one that runs goes on."""
    from mlx_serve_gateway.cli import service_commands as commands

    with _failures():
        commands.set_enabled(False)
    return ExitCode.OK


@service.command()
@_machine_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(machine: bool, as_json: bool) -> int:
    """Show whether the service is installed, enabled and running.

    Exit codes: 0 it runs; 1 it has failed, starts or stops; 3 it does not run.
    """
    from mlx_serve_gateway.cli import service_commands as commands
    from mlx_serve_gateway.cli.output import emit_json

    with _failures():
        seen = commands.status(machine=machine)
    if as_json:
        emit_json(seen)
    else:
        commands.show(seen)
    return {"running": ExitCode.OK, "stopped": ExitCode.NOT_RUNNING}.get(
        seen.state.activity, ExitCode.FAILED
    )


@contextmanager
def _failures() -> Iterator[None]:
    from mlx_serve_gateway.supervision.tool import SupervisorFailed

    try:
        yield
    except SupervisorFailed as error:
        raise CommandFailed(str(error)) from None

"""``mlx-serve service``: the server as a service of launchd or systemd."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode

if TYPE_CHECKING:
    from mlx_serve_gateway.cli.service_commands import RootSteps, Say

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


def _machine_option(command: _Decorated) -> _Decorated:
    option = click.option(
        "--daemon",
        "machine",
        is_flag=True,
        help="A service of the whole machine, which needs no login; root has to install it.",
    )
    return option(command)


def _json_option(command: _Decorated) -> _Decorated:
    option = click.option(
        "--json", "as_json", is_flag=True, help="Print JSON: then that of `status`."
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
@_json_option
def install(machine: bool, print_only: bool, as_json: bool) -> int:
    """Define the service, or bring its definition up to date.

    Starts nothing. The service starts at login if `service.auto_start` is true in config.yaml.

    Exit codes: 0 it is installed; 1 it could not be; 78 the configuration is wrong.
    """
    from mlx_serve_gateway.cli import service_commands as commands
    from mlx_serve_gateway.cli.output import emit

    if print_only and as_json:
        raise click.UsageError("--print and --json exclude each other")
    with _failures():
        if print_only:
            emit(commands.definition(machine=machine).decode().rstrip("\n"))
        elif machine:
            _show_steps(commands.stage_for_root(), as_json)
        else:
            commands.install(_say(as_json))
            _end(as_json)
    return ExitCode.OK


@service.command()
@_machine_option
@_json_option
def uninstall(machine: bool, as_json: bool) -> int:
    """Stop the service and forget it.

    Models, configuration and logs stay.
    """
    from mlx_serve_gateway.cli import service_commands as commands

    with _failures():
        if machine:
            _show_steps(commands.removal_by_root(), as_json)
        else:
            commands.uninstall(_say(as_json))
            _end(as_json)
    return ExitCode.OK


@service.command()
@_json_option
def start(as_json: bool) -> int:
    """Start the service, and wait until the server answers.

    Exit codes: 0 it serves; 1 it does not; 69 the port is taken; 78 the configuration is wrong.
    """
    from mlx_serve_gateway.cli import service_commands as commands

    with _failures():
        commands.start(_say(as_json))
        _end(as_json)
    return ExitCode.OK


@service.command()
@_json_option
def stop(as_json: bool) -> int:
    """Stop the service, after it has finished what it computes."""
    from mlx_serve_gateway.cli import service_commands as commands

    with _failures():
        commands.stop(_say(as_json))
        _end(as_json)
    return ExitCode.OK


@service.command()
@_json_option
def enable(as_json: bool) -> int:
    """Have the service start at every login."""
    from mlx_serve_gateway.cli import service_commands as commands

    with _failures():
        commands.set_enabled(True, _say(as_json))
        _end(as_json)
    return ExitCode.OK


@service.command()
@_json_option
def disable(as_json: bool) -> int:
    """Have the service start only when told to; one that runs goes on."""
    from mlx_serve_gateway.cli import service_commands as commands

    with _failures():
        commands.set_enabled(False, _say(as_json))
        _end(as_json)
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


def _say(as_json: bool) -> "Say":
    from mlx_serve_gateway.cli.output import emit, note

    return note if as_json else emit


def _end(as_json: bool) -> None:
    """Show how the service is now to whoever wants JSON."""
    from mlx_serve_gateway.cli import service_commands as commands
    from mlx_serve_gateway.cli.output import emit_json

    if as_json:
        emit_json(commands.status(machine=False))


def _show_steps(steps: "RootSteps", as_json: bool) -> None:
    from mlx_serve_gateway.cli import service_commands as commands
    from mlx_serve_gateway.cli.output import emit_json

    if as_json:
        emit_json(steps)
    else:
        commands.show_steps(steps)


@contextmanager
def _failures() -> Iterator[None]:
    from mlx_serve_gateway.supervision.tool import SupervisorFailed

    try:
        yield
    except SupervisorFailed as error:
        raise CommandFailed(str(error)) from None

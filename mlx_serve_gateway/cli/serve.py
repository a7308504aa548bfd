"""``mlx-serve start``, ``stop`` and ``status``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from mlx_serve_gateway.cli.configuration import config_option
from mlx_serve_gateway.cli.exit_codes import ExitCode
from mlx_serve_gateway.cli.requested import Request, setting_options

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])

_PORT = click.IntRange(1, 65535)
_START_OPTIONS = (
    click.option(
        "--foreground", is_flag=True, help="Stay in this terminal instead of the background."
    ),
    click.option(
        "--log-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="With --foreground: write to this file, which is kept small, not to the terminal.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    # How a detached server reaches the command that waits for it.
    click.option("--announce-to", type=int, hidden=True),
)


def start_options(command: _Decorated) -> _Decorated:
    """The options of every command that starts the server."""
    for option in reversed(_START_OPTIONS):
        command = option(command)
    return setting_options(command)


@click.command()
@start_options
def start(**options: Any) -> int:
    """Start the server, in the background unless told otherwise.

    Returns once the server answers, or says why it does not. When a server of ours already runs
    on the port, that is a success and nothing is started.

    Exit codes: 0 started, already running, or (foreground) stopped as asked; 69 the port belongs
    to another program; 75 try again later; 78 the configuration is wrong; 130 interrupted.
    """
    return run_start(**options)


def run_start(
    *,
    foreground: bool,
    log_file: Path | None,
    announce_to: int | None,
    as_json: bool,
    **requested: Any,
) -> int:
    from mlx_serve_gateway.cli import starting
    from mlx_serve_gateway.cli.announcement import tell_json, tell_terminal

    if log_file is not None and not foreground:
        raise click.UsageError("--log-file needs --foreground; in the background there is a log")
    tell = tell_json if as_json else tell_terminal
    return starting.start(Request(**requested), foreground, announce_to, log_file, tell)


@click.command()
@click.option("--port", type=_PORT, help="Port of the server; else the configured one.")
@click.option("--all", "every", is_flag=True, help="Stop every server of this home folder.")
@click.option("--force", is_flag=True, help="Kill the server and its workers at once.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="How long to wait; else limits.drain_timeout and a little more.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def stop(
    port: int | None,
    every: bool,
    force: bool,
    timeout: float | None,
    as_json: bool,
    config_file: Path | None,
) -> int:
    """Stop the server: it finishes what it is computing, then exits.

    Waits until the process has ended. A server that does not run counts as stopped. Only a process
    that holds its pid file is ever signalled.

    Exit codes: 0 stopped, or was not running; 1 did not stop in time, or must not be signalled.
    """
    from mlx_serve_common.paths import home
    from mlx_serve_gateway import pidfile
    from mlx_serve_gateway.cli import ending
    from mlx_serve_gateway.cli.configuration import load_or_defaults
    from mlx_serve_gateway.cli.instances import running_ports
    from mlx_serve_gateway.cli.output import emit, emit_json, note

    if every and port is not None:
        raise click.UsageError("--all and --port exclude each other")
    here = home()
    config = load_or_defaults(here, config_file, needed=port is None and not every)
    ports = pidfile.ports(here) if every else [port or config.server.port]
    limit_s = timeout or config.limits.drain_timeout + ending.MARGIN_S
    endings = ending.stop(here, ports, force=force, timeout_s=limit_s)
    if as_json:
        emit_json({"instances": endings})
    elif not endings:
        emit("not running")
    else:
        for each in endings:
            (note if each.outcome == "failed" else emit)(each.message)
    if not every and endings[0].outcome == "not_running" and (others := running_ports(here)):
        note(f"servers run on {', '.join(map(str, others))}; use --port or --all")
    return ExitCode.FAILED if any(e.outcome == "failed" for e in endings) else ExitCode.OK


@click.command()
@click.option("--port", type=_PORT, help="Port of one server; else every server is shown.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def status(port: int | None, as_json: bool, config_file: Path | None) -> int:
    """Show whether servers run, and what their workers do.

    Exit codes: 0 up; 3 not running; 1 starting or not responding.
    """
    from mlx_serve_common.paths import home
    from mlx_serve_gateway.cli import status as view
    from mlx_serve_gateway.cli.configuration import load_or_defaults
    from mlx_serve_gateway.cli.instances import instance, instances
    from mlx_serve_gateway.cli.output import emit_json, note

    here = home()
    seen = instances(here) if port is None else [instance(here, port)]
    if not seen:
        config = load_or_defaults(here, config_file, needed=False)
        seen = [instance(here, config.server.port or 8000)]
    if as_json:
        emit_json({"instances": seen})
    else:
        for each in seen:
            view.show_instance(each)
        if all(each.state == "down" for each in seen):
            note("`mlx-serve start` starts it")
    return view.exit_code(seen)

"""``mlx-serve logs``: what a background server has written, and writes."""

from collections.abc import Iterator
from pathlib import Path

import click

from mlx_serve_gateway.cli.configuration import config_option
from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode

_POLL_S = 0.2


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written, until Ctrl-C.")
@click.option(
    "-n", "--lines", type=click.IntRange(min=0), default=100, show_default=True,
    help="How many lines to begin with.",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port of the server; else the one that runs."
)
@config_option
def logs(follow: bool, lines: int, port: int | None, config_file: Path | None) -> int:
    """Show the log of a server that was started in the background.

    Exit codes: 0 shown; 1 there is no log; 130 interrupted.
    """
    from mlx_serve_common.logs import escape
    from mlx_serve_common.paths import home
    from mlx_serve_gateway.cli.output import emit, end_with_reader

    if follow:
        end_with_reader()
    here = home()
    path = _log_of(here, port or _only_port(here, config_file))
    for line in _lines(path, lines, follow):
        if not emit(escape(line.decode("utf-8", "replace").rstrip("\n"))):
            break
    return ExitCode.OK


def _lines(path: Path, count: int, follow: bool) -> Iterator[bytes]:
    from time import sleep

    from mlx_serve_gateway.cli.log_lines import following_lines, last_lines

    try:
        log = path.open("rb")
    except OSError as error:
        raise CommandFailed(
            f"{path}: {error.strerror or error}; a server that `mlx-serve start` puts into the "
            "background writes there, `mlx-serve status` shows which run"
        ) from None
    with log:
        yield from last_lines(log, path, count)
        if follow:
            yield from following_lines(log, path, lambda: sleep(_POLL_S))
        elif unfinished := log.read():
            yield unfinished


def _only_port(home: Path, config_file: Path | None) -> int:
    """The server that runs; of several, or none, the configured one."""
    from mlx_serve_gateway.cli.configuration import load_or_defaults
    from mlx_serve_gateway.cli.instances import running_ports

    running = running_ports(home)
    if len(running) == 1:
        return running[0]
    configured = load_or_defaults(home, config_file, needed=False).server.port
    if len(running) > 1 and configured not in running:
        raise CommandFailed(f"servers run on {', '.join(map(str, running))}; choose with --port")
    return configured


def _log_of(home: Path, port: int) -> Path:
    """The log of the server that runs there, else the last one that was written."""
    from mlx_serve_common.paths import log_file
    from mlx_serve_gateway.pidfile import look
    from mlx_serve_gateway.supervision.service import service_log

    record = look(home, port).record
    if record is None:
        existing = [log for log in (log_file(home, port), service_log(home)) if log.is_file()]
        return max(existing, key=lambda log: log.stat().st_mtime, default=log_file(home, port))
    if record.log is None:
        raise CommandFailed(
            f"the server on port {port} (pid {record.pid}) writes to the terminal or the service "
            "manager that started it (systemd: journalctl --user --unit mlx-serve)"
        )
    return Path(record.log)

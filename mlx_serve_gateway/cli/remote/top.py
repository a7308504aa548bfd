"""``mlx-serve-ctl top``: the models of a server at work.

Invariants: in a pipe one table is printed, on a terminal the picture goes on until Ctrl-C, also
while the server does not answer.
"""

from typing import TYPE_CHECKING, Any, NoReturn

import click

from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode
from mlx_serve_gateway.cli.remote.target import chosen_gateway, gateway_options

if TYPE_CHECKING:
    from rich.console import Group

    from mlx_serve_gateway.cli.gateway_connection import Gateway
    from mlx_serve_gateway.cli.remote.overview import Overview
    from mlx_serve_gateway.cli.remote.scrape import Scrape


@click.command()
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="What the rates are taken over.",
)
@click.option("--once", is_flag=True, help="Print one table and end, as in a pipe.")
@gateway_options
def top(interval: float, once: bool, as_json: bool, **target: Any) -> int:
    """Show the models at work: what they hold, and how fast they are.

    RUN/WAIT are the inputs in the worker and before it; P50 and P99 what requests took; BATCH the
    inputs computed at a time; PAD the share of padding in them; CUT the inputs that were truncated
    since the server started. Rates and times are of the last interval. In a pipe one table is
    printed; Ctrl-C ends the picture.

    Exit codes: 0 shown; 1 refused, or /metrics is off there; 3 nothing listens there; 130
    interrupted.
    """
    import sys
    from time import sleep

    from mlx_serve_gateway.cli.output import emit_json, emit_table, note
    from mlx_serve_gateway.cli.remote.overview import COLUMNS, RIGHT, headline, row

    gateway = chosen_gateway(**target)
    if not (once or as_json) and sys.stdout is not None and sys.stdout.isatty():
        _show_live(gateway, interval)
    before = _scrape(gateway)
    sleep(interval)
    seen = _overview(gateway, before, _scrape(gateway))
    if as_json:
        emit_json(seen)
    else:
        note(headline(seen))
        emit_table(COLUMNS, [row(model) for model in seen.models], right=RIGHT)
    return ExitCode.OK


def _show_live(gateway: "Gateway", interval_s: float) -> NoReturn:
    from time import sleep

    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False, emoji=False, markup=False)
    before: Scrape | None = None
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                now = _scrape(gateway)
                picture = _picture(_overview(gateway, before or now, now))
                before = now
            except CommandFailed as failure:
                if before is None:
                    raise
                picture = _notice(failure.message)
            live.update(picture, refresh=True)
            sleep(interval_s)


def _scrape(gateway: "Gateway") -> "Scrape":
    from time import monotonic

    from mlx_serve_gateway.cli.remote.asking import asked
    from mlx_serve_gateway.cli.remote.scrape import read_scrape

    text = asked(gateway, "GET", "/metrics").decode("utf-8", "replace")
    try:
        return read_scrape(text, monotonic())
    except ValueError:
        raise CommandFailed(f"{gateway.url}: its /metrics cannot be read") from None


def _overview(gateway: "Gateway", before: "Scrape", now: "Scrape") -> "Overview":
    from mlx_serve_gateway.cli.gateway_client import HealthReport
    from mlx_serve_gateway.cli.remote.asking import asked, understood
    from mlx_serve_gateway.cli.remote.overview import overview

    report = understood(gateway, asked(gateway, "GET", "/health/detail"), HealthReport)
    return overview(report, before, now)


def _picture(seen: "Overview") -> "Group":
    from rich.console import Group
    from rich.text import Text

    from mlx_serve_common.logs import escape
    from mlx_serve_gateway.cli.output import table
    from mlx_serve_gateway.cli.remote.overview import COLUMNS, RIGHT, headline, row

    problems = [Text(escape(f"problem: {problem}")) for problem in seen.problems]
    models = table(COLUMNS, [row(model) for model in seen.models], right=RIGHT)
    models.collapse_padding = True  # names need the room
    return Group(Text(escape(headline(seen))), *problems, models)


def _notice(message: str) -> "Group":
    from rich.console import Group
    from rich.text import Text

    from mlx_serve_common.logs import escape

    return Group(Text(escape(f"{message}; trying again")))

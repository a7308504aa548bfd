"""``mlx-serve-ctl events``: what happens to a server, as it happens.

Invariants: a lost connection is made again and nothing is told twice; what was missed is said.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode
from mlx_serve_gateway.cli.remote.target import chosen_gateway, gateway_options

if TYPE_CHECKING:
    from mlx_serve_gateway.cli.gateway_connection import Gateway
    from mlx_serve_gateway.cli.remote.event_text import ToldEvent

_LONGEST_PAUSE_S = 10.0


@click.command()
@gateway_options
def events(as_json: bool, **target: Any) -> int:
    """Follow what happens: models loaded and gone, deaths, downloads.

    Begins with the last events; a lost connection is made again. With --json a line each, as GET
    /admin/events has them. Ctrl-C ends it. Exit codes: 0 nobody reads it any more; 1 refused;
    3 nothing listens there; 130 interrupted.
    """
    from mlx_serve_gateway.cli.output import emit, end_with_reader
    from mlx_serve_gateway.cli.remote.event_text import event_text

    end_with_reader()
    for line, told in _followed(chosen_gateway(**target)):
        if not emit(line.decode() if as_json else event_text(told)):
            break
    return ExitCode.OK


def _followed(gateway: "Gateway") -> Iterator[tuple[bytes, "ToldEvent"]]:
    """From one connection after the other; CommandFailed if it is refused."""
    from time import sleep

    from mlx_serve_gateway.cli.gateway_client import health
    from mlx_serve_gateway.cli.gateway_connection import NoAnswer
    from mlx_serve_gateway.cli.output import note
    from mlx_serve_gateway.cli.remote.asking import unanswered

    watched, last, pause_s = "", 0, 0.0
    while True:
        try:
            instance = health(gateway.url).instance
            if instance != watched:  # a server that was started anew counts anew
                watched, last = instance, 0
            for line, told in _heard(gateway, last):
                if last and told.number > last + 1:
                    note(f"{told.number - last - 1} events were missed")
                last, pause_s = told.number, 0.0
                yield line, told
        except NoAnswer as silence:
            if not watched:
                raise unanswered(gateway, silence) from None
        except CommandFailed as refusal:
            if refusal.code is not ExitCode.TEMPORARY:  # while it drains, it is
                raise
        if not pause_s:
            note(f"{gateway.url}: the connection has ended; trying again")
        pause_s = min(_LONGEST_PAUSE_S, pause_s + 1.0)
        sleep(pause_s)


def _heard(gateway: "Gateway", after: int) -> Iterator[tuple[bytes, "ToldEvent"]]:
    from mlx_serve_gateway.cli.gateway_connection import Answer, listening
    from mlx_serve_gateway.cli.remote.asking import refused, understood
    from mlx_serve_gateway.cli.remote.event_text import ToldEvent

    with listening(gateway, "GET", f"/admin/events?after={after}") as (status, lines):
        if status != 200:
            raise refused(gateway, Answer(status, b"\n".join(lines)))
        for line in lines:
            yield line, understood(gateway, line, ToldEvent)

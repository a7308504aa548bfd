"""The servers of one home folder as seen from outside: which run, and whether they answer.

Invariants: a server counts as running only while it holds its pid file; looking changes nothing.
"""

from pathlib import Path
from typing import Literal

import msgspec

from mlx_serve_gateway.cli.addresses import local_url
from mlx_serve_gateway.cli.gateway_client import health_detail, read_report
from mlx_serve_gateway.cli.gateway_connection import Gateway, NoAnswer
from mlx_serve_gateway.pidfile import PidRecord, look, ports

State = Literal["up", "starting", "unresponsive", "down"]


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One port, at one moment."""

    port: int
    state: State
    pid: int | None = None
    host: str | None = None
    url: str | None = None
    log: str | None = None
    problem: str | None = None
    health: msgspec.Raw | None = None
    """Its own detailed report, as it gave it."""


def instance(home: Path, port: int) -> Instance:
    seen = look(home, port)
    if not seen.held:
        return Instance(port=port, state="down")
    if seen.record is None:
        return Instance(port=port, state="starting")
    return _running(seen.record)


def instances(home: Path) -> list[Instance]:
    """Every server that runs; pid files that nobody holds are left out."""
    return [instance(home, port) for port in running_ports(home)]


def running_ports(home: Path) -> list[int]:
    return [port for port in ports(home) if look(home, port).held]


def own_gateway(home: Path, port: int) -> Gateway | None:
    """The server of this home on the port, with the key that it has left for its account."""
    record = look(home, port).record
    return None if record is None else Gateway(local_url(record.host, record.port), record.key)


def _running(record: PidRecord) -> Instance:
    url = local_url(record.host, record.port)
    state: State = "unresponsive"
    report, problem = None, None
    try:
        report = health_detail(url, key=record.key)
        if read_report(report).instance == record.instance:
            state = "up"
        else:
            report, problem = None, "another server answers on its port"
    except NoAnswer as silence:
        problem = str(silence)
    return Instance(
        port=record.port,
        state=state,
        pid=record.pid,
        host=record.host,
        url=url,
        log=record.log,
        problem=problem,
        health=report,
    )

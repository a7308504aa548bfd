"""Ending servers: ask, wait, report; with force, kill the process and its children.

Invariants: a server that launchd or systemd runs is ended through them, or they would start it
again. Only the process that holds the pid file is signalled, and not when another server answers
on its port. A server that drains already is left to it: a second signal would cut the
drain short, so that one is sent only when the drain must have ended.
"""

import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep
from typing import Literal

import msgspec
import psutil

from mlx_serve_gateway.cli.addresses import local_url
from mlx_serve_gateway.cli.gateway_client import health
from mlx_serve_gateway.cli.gateway_connection import TIMEOUT_S, NoAnswer
from mlx_serve_gateway.pidfile import PidRecord, Watch, watch
from mlx_serve_gateway.supervision.supervisor import owner
from mlx_serve_gateway.supervision.tool import SupervisorFailed

# Beyond the drain: for the workers and the process itself to end.
MARGIN_S = 5.0

_POLL_S = 0.02
_NAMELESS_S = 3.0
_KILLED_S = 10.0
# Whoever forces is in a hurry, and mostly because the server does not answer.
_GLANCE_S = 0.5


class Ending(msgspec.Struct, frozen=True):
    """What became of one server; one that did not run counts as stopped."""

    port: int
    outcome: Literal["stopped", "not_running", "failed"]
    message: str


def stop(home: Path, ports: Sequence[int], *, force: bool, timeout_s: float) -> list[Ending]:
    """End the servers on these ports: all are asked before the first is waited for."""
    with ExitStack() as watches:
        asked = [
            _ask(home, watches.enter_context(watch(home, port)), port, force=force)
            for port in ports
        ]
        limit_s = _KILLED_S if force else timeout_s
        deadline = monotonic() + limit_s
        return [
            each if isinstance(each, Ending) else _await_end(each, deadline, limit_s)
            for each in asked
        ]


class _Asked(msgspec.Struct, frozen=True):
    seen: Watch
    record: PidRecord
    was_signalled: bool
    children: list[psutil.Process] = []
    """Those killed along with the server."""


def _ask(home: Path, seen: Watch | None, port: int, *, force: bool) -> Ending | _Asked:
    if seen is None or not seen.is_held():
        return Ending(port, "not_running", f"not running on port {port}")
    record = _record(seen)
    if record is None:
        if not seen.is_held():
            return Ending(port, "not_running", f"not running on port {port}")
        return Ending(port, "failed", f"port {port}: a server is just starting; try again")
    doing = _doing(record, _GLANCE_S if force else TIMEOUT_S)
    if doing == "another":
        message = f"port {port}: another server than pid {record.pid} answers; nobody was signalled"
        return Ending(port, "failed", message)
    try:
        if force or doing == "serves":
            _request_stop(home, record)
        if force:
            return _Asked(seen, record, True, _kill(record))
    except SupervisorFailed as error:
        return Ending(port, "failed", f"port {port}: it runs as a service, and {error}")
    except PermissionError:
        message = f"port {port}: pid {record.pid} belongs to another user"
        return Ending(port, "failed", message)
    return _Asked(seen, record, doing == "serves")


def _record(seen: Watch) -> PidRecord | None:
    deadline = monotonic() + _NAMELESS_S
    while (record := seen.record()) is None and seen.is_held() and monotonic() < deadline:
        sleep(_POLL_S)
    return record


def _doing(record: PidRecord, timeout_s: float) -> Literal["serves", "drains", "another"]:
    """A server that hangs counts as one that serves; it may yet hear a signal."""
    try:
        report = health(local_url(record.host, record.port), timeout_s)
    except NoAnswer as silence:
        # A server listens from before it writes its record until it drains.
        return "drains" if silence.refused else "serves"
    if report.instance != record.instance:
        return "another"
    return "drains" if report.status == "draining" else "serves"


def _request_stop(home: Path, record: PidRecord) -> None:
    supervisor = owner(home, record.pid)
    if supervisor is None:
        record.send(signal.SIGTERM)
    else:
        supervisor.request_stop()


def _kill(record: PidRecord) -> list[psutil.Process]:
    try:
        children = psutil.Process(record.pid).children(recursive=True)
    except psutil.Error:
        children = []
    if not record.send(signal.SIGKILL):
        return []  # Then the children listed may be somebody else's.
    for child in children:
        try:
            child.kill()
        except psutil.Error:
            continue
    return children


def _await_end(asked: _Asked, deadline: float, limit_s: float) -> Ending:
    pid, port = asked.record.pid, asked.record.port
    was_signalled = asked.was_signalled
    while asked.seen.is_held() or any(map(_lives, asked.children)):
        if monotonic() > deadline:
            if not was_signalled:
                was_signalled = asked.record.send(signal.SIGTERM)
                deadline += MARGIN_S
                continue
            message = (
                f"port {port}: pid {pid} did not stop within {limit_s:g} s; "
                f"to kill it: mlx-serve stop --force --port {port}"
            )
            return Ending(port, "failed", message)
        sleep(_POLL_S)
    return Ending(port, "stopped", f"stopped the server on port {port} (pid {pid})")


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False

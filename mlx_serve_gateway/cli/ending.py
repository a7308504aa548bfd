"""Ending servers: ask, wait, report; with force, kill the process and its children.

Invariants: only the process that holds the pid file is signalled, and not when another server
answers on its port. A server that drains is not signalled again, which would cut its drain short.
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
from mlx_serve_gateway.cli.gateway_client import NoAnswer, health
from mlx_serve_gateway.pidfile import PidRecord, Watch, watch

# Beyond the drain: for the workers and the process itself to end.
MARGIN_S = 5.0

_POLL_S = 0.02
_NAMELESS_S = 5.0
_KILLED_S = 10.0


class Ending(msgspec.Struct, frozen=True):
    """What became of one server; one that did not run counts as stopped."""

    port: int
    outcome: Literal["stopped", "not_running", "failed"]
    message: str


def stop(home: Path, ports: Sequence[int], *, force: bool, timeout_s: float) -> list[Ending]:
    """End the servers on these ports: all are asked before the first is waited for."""
    with ExitStack() as watches:
        asked = [
            _ask(watches.enter_context(watch(home, port)), port, force=force) for port in ports
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
    children: list[psutil.Process]
    """Those killed along with the server; empty without force."""


def _ask(seen: Watch | None, port: int, *, force: bool) -> Ending | _Asked:
    if seen is None or not seen.is_held():
        return Ending(port, "not_running", f"not running on port {port}")
    record = _record(seen)
    if record is None:
        if not seen.is_held():
            return Ending(port, "not_running", f"not running on port {port}")
        return Ending(port, "failed", f"port {port}: a server is just starting; try again")
    status = _status(record)
    if status == "another":
        message = f"port {port}: another server than pid {record.pid} answers; nobody was signalled"
        return Ending(port, "failed", message)
    children: list[psutil.Process] = []
    try:
        if force:
            children = _kill(record)
        elif status != "draining":
            record.send(signal.SIGTERM)
    except PermissionError:
        message = f"port {port}: pid {record.pid} belongs to another user"
        return Ending(port, "failed", message)
    return _Asked(seen, record, children)


def _record(seen: Watch) -> PidRecord | None:
    deadline = monotonic() + _NAMELESS_S
    while (record := seen.record()) is None and seen.is_held() and monotonic() < deadline:
        sleep(_POLL_S)
    return record


def _status(record: PidRecord) -> str:
    """What ``/health`` says; ``another`` for a stranger; nothing when nobody answers."""
    try:
        report = health(local_url(record.host, record.port))
    except NoAnswer:
        return ""
    return report.status if report.instance == record.instance else "another"


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
    while asked.seen.is_held() or any(map(_lives, asked.children)):
        if monotonic() > deadline:
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

"""Becoming the server: settle the port, hold the pid file, announce, serve, let go.

Invariants: the pid file is locked before the port is bound, so that of many starts exactly one
proceeds and the others know whom they lost to; it is removed after the server has ended.
"""

import errno
import logging
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import msgspec

from mlx_serve_common import logs
from mlx_serve_common.config import Config, ServerConfig
from mlx_serve_common.paths import pid_file
from mlx_serve_gateway import worker_env
from mlx_serve_gateway.cli.addresses import local_url, network_url
from mlx_serve_gateway.cli.announcement import Announcement, Tell
from mlx_serve_gateway.cli.configuration import exit_code_of, unusable
from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode
from mlx_serve_gateway.cli.gateway_client import health
from mlx_serve_gateway.cli.gateway_connection import NoAnswer
from mlx_serve_gateway.cli.log_file import LogFile
from mlx_serve_gateway.cli.open_files import allow_open_files
from mlx_serve_gateway.pidfile import PidFile, PidFileHeld, PidRecord, Sighting, look
from mlx_serve_gateway.process_identity import this_process

_POLL_S = 0.05
# A start waits as long as a drain may take, and this for the process to end.
_MARGIN_S = 5.0
_GLANCE_S = 0.5


LogOf = Callable[[int], Path]
"""The log file of the server on a port."""


def serve(
    config: Config,
    read_config: Callable[[], Config],
    home: Path,
    tell: Tell,
    log_of: LogOf | None = None,
) -> int:
    """Run the server in this process; the exit code, also when one is running already.

    ``read_config`` gives the configuration as it is later, for a reload.
    """
    os.umask(0o077)
    logs.configure(config.logging.level, config.logging.format)
    allow_open_files(tell)
    # It takes as long as importing the server, which the next line does.
    worker_env.prepare(os.environ)
    claimed = _claim(config, home, tell)
    if isinstance(claimed, PidRecord):
        url = local_url(claimed.host, claimed.port)
        tell(Announcement(kind="already_running", pid=claimed.pid, url=url))
        return ExitCode.OK
    pid_file, listeners = claimed
    try:
        return _serve(config, read_config, home, tell, pid_file, listeners, log_of)
    finally:
        pid_file.remove()


def _serve(
    config: Config,
    read_config: Callable[[], Config],
    home: Path,
    tell: Tell,
    pid_file: PidFile,
    listeners: list[socket.socket],
    log_of: LogOf | None,
) -> int:
    from mlx_serve_gateway import server

    # Asked now: the server takes the sockets over.
    port: int = listeners[0].getsockname()[1]
    exposure = _exposure(config, listeners)
    log = None if log_of is None else log_of(port)
    if log is not None:
        # Opened anew: the server before this one may have turned the file over.
        logging.getLogger().addHandler(receive_output(log))
        tell(Announcement(kind="logging", log=str(log)))
    record = PidRecord(
        **msgspec.structs.asdict(this_process()),
        port=port,
        host=config.server.host,
        instance=secrets.token_hex(8),
        log=None if log is None else str(log),
        key=secrets.token_urlsafe(32),
    )
    pid_file.publish(record)

    def on_ready() -> None:
        if exposure:
            tell(Announcement(kind="note", message=exposure))
        url = local_url(record.host, port)
        tell(Announcement(kind="ready", pid=record.pid, url=url, log=record.log))

    return server.run(
        config,
        home=home,
        listeners=listeners,
        instance=record.instance,
        on_ready=on_ready,
        read_config=read_config,
        own_key=record.key,
    )


def _claim(
    config: Config, home: Path, tell: Tell
) -> tuple[PidFile, list[socket.socket]] | PidRecord:
    """The pid file and the bound port, or the record of our server that has them already."""
    if config.server.port == 0:
        return _claim_any_port(config, home)
    held = _wait_for_turn(config, home, tell)
    if isinstance(held, PidRecord):
        return held
    try:
        return held, bound(config)
    except BaseException:
        held.remove()
        raise


def _claim_any_port(config: Config, home: Path) -> tuple[PidFile, list[socket.socket]]:
    while True:
        listeners = bound(config)
        try:
            return _acquire(home, listeners[0].getsockname()[1]), listeners
        except PidFileHeld:
            # A server that drains has left its port but not its pid file: take another port.
            for listener in listeners:
                listener.close()


def _wait_for_turn(config: Config, home: Path, tell: Tell) -> PidFile | PidRecord:
    """The pid file once it is free, or the record of a server of ours that answers."""
    deadline = monotonic() + config.limits.drain_timeout + _MARGIN_S
    told = False
    while True:
        try:
            return _acquire(home, config.server.port)
        except PidFileHeld:
            seen = look(home, config.server.port)
        state = _state(seen)
        if seen.record is not None and state == "serves":
            return seen.record
        who = "another start" if seen.record is None else f"pid {seen.record.pid}"
        if monotonic() > deadline:
            raise CommandFailed(
                f"{who} holds port {config.server.port} and {state}; see `mlx-serve status` and "
                f"its log, or end it: mlx-serve stop --force --port {config.server.port}",
                ExitCode.TEMPORARY,
            )
        if not told and seen.record is not None:
            tell(Announcement(kind="note", message=f"waiting for {who}, which {state} …"))
            told = True
        sleep(_POLL_S)


def _state(seen: Sighting) -> str:
    if seen.record is None:
        return "is starting"
    try:
        report = health(local_url(seen.record.host, seen.record.port))
    except NoAnswer as silence:
        return "is stopping" if silence.refused else "does not answer"
    if report.instance != seen.record.instance:
        return "does not answer"
    return "is stopping" if report.status == "draining" else "serves"


def _acquire(home: Path, port: int) -> PidFile:
    try:
        return PidFile.acquire(home, port)
    except OSError as error:
        raise CommandFailed(unusable(pid_file(home, port), error), exit_code_of(error)) from None


def bound(config: Config) -> list[socket.socket]:
    """What listens on the configured port, or CommandFailed saying who has it."""
    from mlx_serve_gateway import server

    host, port = config.server.host, config.server.port
    try:
        return server.bind(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CommandFailed(_port_taken(host, port), ExitCode.UNAVAILABLE) from None
        reason = error.strerror or error
        message = f"cannot listen on {host} port {port}: {reason} (server.host, server.port)"
        raise CommandFailed(message, ExitCode.CONFIG) from None


def _port_taken(host: str, port: int) -> str:
    try:
        pid = health(local_url(host, port), _GLANCE_S).pid
        owner = f"another mlx-serve (pid {pid}) with its own home folder"
    except NoAnswer:
        owner = "another program"
    return (
        f"port {port} is in use by {owner}; stop that one (`lsof -i :{port}` shows it) or choose "
        f"another port: mlx-serve start --port {port + 1 if port < 65535 else 8000}"
    )


def receive_output(log: Path) -> LogFile:
    """Send stdout and stderr of this process to the log, or CommandFailed naming it."""
    kept = LogFile(log)
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept.receive_output()
    except OSError as error:
        raise CommandFailed(unusable(log, error), exit_code_of(error)) from None
    return kept


def _exposure(config: Config, listeners: list[socket.socket]) -> str | None:
    url = network_url(listeners)
    if url is None:
        return None
    managers = _managers(config.server)
    return (
        f"Inference is open to your network at {url}; model management is limited to {managers}. "
        "To close it: server.host: 127.0.0.1, or --host 127.0.0.1."
    )


def _managers(server: ServerConfig) -> str:
    if server.control_plane == "off":
        return "the commands of this account"
    if server.admin_key is None:
        return "this machine"
    if server.control_plane == "key":
        return "whoever has the admin key"
    return "this machine and whoever has the admin key"

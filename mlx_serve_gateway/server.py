"""The server's own life: bind, serve, drain, stop.

Invariants: the first signal drains (nothing new is admitted, what runs is finished, at most
``limits.drain_timeout`` is waited), the second ends the process at once. The drain deadline is
ours: Hypercorn's does not hold on every Python. A fault in our own code ends the process with a
code of its own, instead of leaving a port open over it; workers die with the process in any case.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import uvloop
from hypercorn.asyncio import serve as hypercorn_serve
from starlette.types import ASGIApp

from mlx_serve_common.config import Config
from mlx_serve_common.errors import ServeError
from mlx_serve_gateway.app import build_app
from mlx_serve_gateway.composition import composed
from mlx_serve_gateway.connections import settings as connections
from mlx_serve_gateway.faults import EXIT_FAULT, end_on_faults
from mlx_serve_gateway.lifecycle import Lifecycle
from mlx_serve_gateway.metrics_port import metrics_app, metrics_listener
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.reconfiguration import Reconfiguration
from mlx_serve_gateway.refusals import shutting_down
from mlx_serve_gateway.sd_notify import Notifier
from mlx_serve_gateway.server_events import Draining
from mlx_serve_gateway.services import Controls

log = logging.getLogger(__name__)

EXIT_OK = 0

_GRACE_S = 2.0
_COLLECT_AFTER = 5_000, 20, 20


def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for every address of ``host``, all on one port; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
            if port == 0 and listeners:
                address = (address[0], listeners[0].getsockname()[1], *address[2:])
            listeners.append(
                socket.create_server(
                    address, family=family, backlog=connections.BACKLOG, dualstack_ipv6=False
                )
            )
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def run(
    config: Config,
    *,
    home: Path,
    listeners: list[socket.socket],
    instance: str,
    on_ready: Callable[[], None],
    read_config: Callable[[], Config],
    own_key: str | None = None,
) -> int:
    """Serve until told to stop; the exit code.

    ``read_config`` is how the configuration was come by; ``own_key`` opens the server to our own
    commands.
    """
    serving = _serve(config, home, listeners, instance, on_ready, read_config, own_key)
    try:
        return uvloop.run(serving)
    except Exception:
        log.exception("the server has failed")
        return EXIT_FAULT


async def _serve(
    config: Config,
    home: Path,
    listeners: list[socket.socket],
    instance: str,
    on_ready: Callable[[], None],
    read_config: Callable[[], Config],
    own_key: str | None,
) -> int:
    notifier = Notifier.from_environment()
    stop = asyncio.Event()
    on_started = partial(_tell_ready, notifier, on_ready)
    app = Reconfiguration(read_config, partial(build_app, on_started=on_started))
    _on_signals(stop)
    end_on_faults(asyncio.get_running_loop())
    controls = Controls(stop.set, app.reload, own_key)
    async with composed(config, home, instance, controls) as services:
        app.begin(services)
        _on_hangup(app)
        await _serve_until_stopped(app, listeners, stop, notifier)
    return EXIT_OK


def _collect_less() -> None:
    """What is there now stays; what a request makes is mostly freed without the collector."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def _tell_ready(notifier: Notifier, on_ready: Callable[[], None]) -> None:
    notifier.tell("READY=1", "STATUS=serving")
    on_ready()


async def _serve_until_stopped(
    app: Reconfiguration,
    listeners: list[socket.socket],
    stop: asyncio.Event,
    notifier: Notifier,
) -> None:
    lifecycle = app.services.lifecycle
    closing = asyncio.Event()
    connections.install()
    _collect_less()
    async with asyncio.TaskGroup() as tasks:
        alive = tasks.create_task(notifier.keep_alive(listeners[0].getsockname()))
        servers = [
            tasks.create_task(
                hypercorn_serve(
                    served,  # type: ignore[arg-type]
                    connections.settings_for(app.services.config.limits, bound),
                    shutdown_trigger=closing.wait,
                    mode="asgi",
                )
            )
            for served, bound in ((app, listeners), *_metrics_server(app))
        ]
        stopped = tasks.create_task(stop.wait())
        await asyncio.wait((*servers, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            raise RuntimeError("the HTTP server ended by itself")
        lifecycle.is_draining = True
        notifier.tell("STOPPING=1", f"STATUS=finishing {lifecycle.in_flight} requests")
        alive.cancel()
        app.services.events.tell(Draining())
        # Now: whoever watches events or waits for a job is answered until its end, and counts as a
        # running request.
        app.services.events.end()
        app.services.jobs.request_stop()
        log.info("stopping: %d requests are still running", lifecycle.in_flight)
        await _drain(app.services.config.limits.drain_timeout, app.services.pool, lifecycle)
        # Not before: until then new requests and probes are told that we are leaving.
        closing.set()
        await asyncio.wait(servers, timeout=_GRACE_S)
        for server in servers:
            server.cancel()


def _metrics_server(app: Reconfiguration) -> Iterator[tuple[ASGIApp, list[socket.socket]]]:
    """The one on the second port, if there is to be one."""
    port = app.services.config.metrics.port
    if port is not None and (listener := metrics_listener(port)) is not None:
        yield metrics_app(lambda: app.services), [listener]


async def _drain(timeout_s: float, pool: Pool, lifecycle: Lifecycle) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await lifecycle.wait_idle()
    except TimeoutError:
        log.warning("%d requests were not finished in time", lifecycle.in_flight)
        pool.fail_all(shutting_down())


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            # Workers see the end of their lifeline; nothing of ours stays.
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal, number)
    # Whoever started us may have set it to be ignored: we would not learn how workers end.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _on_hangup(app: Reconfiguration) -> None:
    """A terminal that is closed ends the server; without one it is how a reload is asked for."""
    if _has_terminal():
        return

    def on_signal() -> None:
        with suppress(ServeError):  # it is in the log
            app.reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, on_signal)


def _has_terminal() -> bool:
    try:
        os.close(os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True

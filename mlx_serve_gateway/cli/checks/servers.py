"""The port, and the servers of this home folder."""

import errno
import shlex
from collections.abc import Sequence

from mlx_serve_common.paths import pid_file
from mlx_serve_gateway.cli.checks.subject import Subject
from mlx_serve_gateway.cli.checks.verdict import Verdict, fail, ok, warn
from mlx_serve_gateway.cli.instances import Instance, instance
from mlx_serve_gateway.pidfile import look, ports


def port(subject: Subject) -> Verdict:
    server = subject.config.server
    if server.port == 0:
        return ok("any free one")
    running = instance(subject.home, server.port)
    if running.state != "down":
        return judge_running(running)
    return judge_bind(server.host, server.port, _bind_error(server.host, server.port))


def judge_running(running: Instance) -> Verdict:
    number = running.port
    match running.state:
        case "up":
            return ok(f"{number}: mlx-serve runs there (pid {running.pid})")
        case "starting":
            return ok(f"{number}: mlx-serve is starting there")
        case _:
            return fail(
                f"{number}: mlx-serve (pid {running.pid}) does not answer: {running.problem}",
                f"see mlx-serve logs --port {number}, then: mlx-serve stop --force --port {number}",
            )


def judge_bind(host: str, number: int, error: OSError | None) -> Verdict:
    if error is None:
        return ok(f"{number} on {host} is free")
    if error.errno == errno.EADDRINUSE:
        other = number + 1 if number < 65535 else 8000
        return fail(
            f"{number} is in use by another program",
            f"stop that one (lsof -i :{number} shows it), or: mlx-serve start --port {other}",
        )
    return fail(
        f"{number} on {host} cannot be listened on: {error.strerror or error}",
        "set server.host and server.port to what this machine has",
    )


def _bind_error(host: str, number: int) -> OSError | None:
    from mlx_serve_gateway.server import bind

    try:
        for listener in bind(host, number):
            listener.close()
    except OSError as error:
        return error
    return None


def pid_files(subject: Subject) -> Verdict:
    home = subject.home
    stale = [number for number in ports(home) if not look(home, number).held]
    return judge_pid_files([str(pid_file(home, number)) for number in stale])


def judge_pid_files(stale: Sequence[str]) -> Verdict:
    if not stale:
        return ok("none is stale")
    return warn(
        f"of servers that did not end in order: {', '.join(stale)}",
        f"a start on that port replaces it; or: rm {shlex.join(stale)}",
    )

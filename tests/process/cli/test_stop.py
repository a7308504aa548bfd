"""``stop``: asks, waits, tells the truth, and signals nobody but the server."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from time import monotonic

import psutil
import pytest

from mlx_serve_gateway.pidfile import PidFile
from tests.process.cli.conftest import CommandLine, Running, get
from tests.process.gateways import is_alive
from tests.waiting import until

pytestmark = pytest.mark.process

# Holds the pid file of a port like a server, and does with it and the port what it is told:
# "deaf" listens to nothing; "other" answers /health as another server.
STAND_IN = """
import http.server, json, sys
from pathlib import Path
import msgspec
from mlx_serve_gateway.pidfile import PidFile, PidRecord
from mlx_serve_gateway.process_identity import this_process

home, port, deed = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

class Other(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"status": "ok", "instance": "somebody else"}).encode())

    def log_message(self, *arguments):
        pass

server = http.server.HTTPServer(("127.0.0.1", port), Other) if deed == "other" else None
identity = msgspec.structs.asdict(this_process())
PidFile.acquire(home, port).publish(
    PidRecord(**identity, port=port, host="127.0.0.1", instance="i")
)
print("ready", flush=True)
server.serve_forever() if server else sys.stdin.read()
"""

StandIn = subprocess.Popen[str]


@pytest.fixture
def stand_in(cli: CommandLine, free_port: int) -> Iterator[Callable[[str], StandIn]]:
    started: list[StandIn] = []

    def start(deed: str) -> StandIn:
        process = subprocess.Popen(
            [sys.executable, "-c", STAND_IN, str(cli.home), str(free_port), deed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_it_returns_when_the_process_is_gone(cli: CommandLine) -> None:
    port = cli.start()
    pid = cli.pid(port)
    server = psutil.Process(pid)
    stopped = cli.run("stop", "--port", str(port))
    assert stopped.returncode == 0
    assert stopped.stdout == f"stopped the server on port {port} (pid {pid})\n"
    assert not is_alive(server)
    assert not (cli.home / f"mlx-serve-{port}.pid").exists()


def test_a_server_that_does_not_run_is_stopped(cli: CommandLine, free_port: int) -> None:
    for arguments in (("--port", str(free_port)), ("--all",)):
        assert cli.run("stop", *arguments).returncode == 0
    assert cli.run("stop", "--all", "--port", "1").returncode == 64


def test_the_configured_port_is_the_one_meant(cli: CommandLine, free_port: int) -> None:
    file = cli.home / "config.yaml"
    file.write_text(f"server: {{port: {free_port}}}\n")
    cli.start("--host", "127.0.0.1")
    stopped = cli.run("stop")
    assert stopped.returncode == 0
    assert f"stopped the server on port {free_port}" in stopped.stdout

    file.write_text("server: {prot: 1}\n")
    assert cli.run("stop").returncode == 78
    assert cli.run("stop", "--port", str(free_port)).returncode == 0


def test_servers_elsewhere_are_mentioned(cli: CommandLine, free_port: int) -> None:
    port = cli.start()
    other = cli.run("stop", "--port", str(free_port))
    assert other.returncode == 0
    assert other.stdout == f"not running on port {free_port}\n"
    assert f"servers run on {port}" in other.stderr
    assert get(port, "/health")[0] == 200


def test_requests_in_flight_are_finished(cli: CommandLine) -> None:
    cli.install_fake("slow", step_s=1.5)
    port = cli.start()
    running = Running(port, "slow", "text")
    assert cli.run("stop", "--port", str(port)).returncode == 0
    assert running.status() == 200


def test_stopping_twice_does_not_cut_the_drain_short(cli: CommandLine, free_port: int) -> None:
    # Longer than the second stop may wait for an answer from the port.
    cli.install_fake("slow", step_s=3.5)
    port = cli.start("--port", str(free_port))
    log = cli.home / "logs" / f"mlx-serve-{port}.log"
    running = Running(port, "slow", "text")
    first = cli.spawn("stop", "--port", str(port))
    until(lambda: "stopping:" in log.read_text())
    assert cli.run("stop", "--port", str(port)).returncode == 0
    first.communicate()
    assert first.returncode == 0
    assert running.status() == 200


def test_a_server_that_hangs(cli: CommandLine) -> None:
    cli.install_fake("tiny")
    port = cli.start("--port", "0", "--preload", "tiny")
    until(lambda: get(port, "/readyz")[0] == 200)
    pid = cli.pid(port)
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    assert len(family) > 1
    os.kill(pid, signal.SIGSTOP)

    asked = cli.run("stop", "--port", str(port), "--timeout", "0.5")
    assert asked.returncode == 1
    assert f"mlx-serve stop --force --port {port}" in asked.stderr

    began = monotonic()
    forced = cli.run("stop", "--port", str(port), "--force")
    assert forced.returncode == 0, forced
    # The two seconds are spent asking who answers on the port.
    assert monotonic() - began < 5
    assert not any(map(is_alive, family))


def test_all_of_them(cli: CommandLine, free_port: int) -> None:
    first, second, hung = cli.start(), cli.start(), cli.start()
    os.kill(cli.pid(hung), signal.SIGSTOP)
    (cli.home / f"mlx-serve-{free_port}.pid").write_text("stale")

    stopped = cli.run("stop", "--all", "--timeout", "1")
    assert stopped.returncode == 1
    assert len(stopped.stdout.splitlines()) == 3
    assert f"not running on port {free_port}\n" in stopped.stdout
    for port in (first, second):
        assert f"stopped the server on port {port} " in stopped.stdout
    assert f"port {hung}: pid {cli.pid(hung)} did not stop within 1 s" in stopped.stderr
    assert cli.run("stop", "--all", "--force").returncode == 0


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
def test_nobody_is_signalled_when_another_server_answers(
    cli: CommandLine,
    free_port: int,
    stand_in: Callable[[str], StandIn],
    force: tuple[str, ...],
) -> None:
    process = stand_in("other")
    refused = cli.run("stop", "--port", str(free_port), *force)
    assert refused.returncode == 1
    assert "nobody was signalled" in refused.stderr
    assert process.poll() is None


def test_a_server_whose_port_is_dead_is_signalled_in_the_end(
    cli: CommandLine, free_port: int, stand_in: Callable[[str], StandIn]
) -> None:
    process = stand_in("deaf")
    stopped = cli.run("stop", "--port", str(free_port), "--timeout", "0.2")
    assert stopped.returncode == 0, stopped
    assert process.wait() == -signal.SIGTERM


def test_a_server_that_is_just_starting_is_not_signalled(cli: CommandLine, free_port: int) -> None:
    held = PidFile.acquire(cli.home, free_port)
    refused = cli.run("stop", "--port", str(free_port))
    assert refused.returncode == 1
    assert "just starting" in refused.stderr
    held.remove()

"""``start --foreground``: a server in the hands of a terminal or a service manager."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.process.cli.conftest import CommandLine, Running, get
from tests.waiting import until

pytestmark = pytest.mark.process

READY = re.compile(r"mlx-serve is running \(pid (\d+)\) at http://127\.0\.0\.1:(\d+)\n")


class Foreground:
    def __init__(self, cli: CommandLine, *arguments: str) -> None:
        self.process = cli.spawn(
            "start", "--foreground", "--port", "0", *arguments, start_new_session=True
        )
        assert self.process.stdout is not None
        told = READY.fullmatch(self.process.stdout.readline())
        assert told is not None, self.process.communicate()
        assert int(told[1]) == self.process.pid
        self.port = int(told[2])

    def ended(self) -> tuple[int, str]:
        _, err = self.process.communicate(timeout=40)
        return self.process.returncode, err


@pytest.fixture
def server(cli: CommandLine) -> Iterator[Foreground]:
    cli.install_fake("slow", step_s=1)
    server = Foreground(cli)
    yield server
    server.process.kill()
    server.process.communicate()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(cli: CommandLine, server: Foreground, signum: signal.Signals) -> None:
    running = Running(server.port, "slow", "text")
    # As the terminal's Ctrl-C: to the whole process group, workers included.
    os.killpg(server.process.pid, signum)
    assert running.status() == 200
    code, err = server.ended()
    assert code in (0, 130) if signum is signal.SIGINT else code == 0
    assert "Traceback" not in err
    assert not (cli.home / f"mlx-serve-{server.port}.pid").exists()


def test_it_is_found_by_status_and_stop(cli: CommandLine, server: Foreground) -> None:
    status = cli.run("status", "--port", str(server.port))
    assert status.returncode == 0
    assert "log:" not in status.stdout  # the terminal has it
    assert cli.run("stop", "--port", str(server.port)).returncode == 0
    assert server.ended()[0] == 0


def test_a_reader_that_leaves_does_not_take_the_server_along(
    cli: CommandLine, free_port: int
) -> None:
    command = " ".join(cli.command("start", "--foreground", "--port", str(free_port)))
    pipeline = subprocess.Popen(
        f"{command} 2>&1 | head -1", shell=True, env=cli.env, stdout=subprocess.PIPE, text=True
    )
    assert pipeline.stdout is not None
    assert pipeline.stdout.readline()
    until(lambda: cli.run("status", "--port", str(free_port)).returncode == 0)
    for _ in range(3):
        assert get(free_port, "/v1/models")[0] == 200
    assert cli.run("stop", "--port", str(free_port)).returncode == 0
    pipeline.communicate()


def test_closed_streams(cli: CommandLine, free_port: int) -> None:
    command = " ".join(cli.command("start", "--foreground", "--port", str(free_port)))
    server = subprocess.Popen(f"exec {command} <&- >&- 2>&-", shell=True, env=cli.env)
    try:
        until(lambda: cli.run("status", "--port", str(free_port)).returncode == 0)
        assert cli.run("stop", "--port", str(free_port)).returncode == 0
        assert server.wait() == 0
    finally:
        server.kill()
        server.wait()


def test_stdout_of_other_commands_may_close_too(cli: CommandLine) -> None:
    command = " ".join(cli.command("start", "--help"))
    piped = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | true"],
        env=cli.env,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in piped.stderr
    assert "BrokenPipe" not in piped.stderr


def test_a_full_disk_under_the_log(cli: CommandLine, free_port: int) -> None:
    with open("/dev/full", "w") as full:
        server = cli.spawn(
            "start", "--foreground", "--port", str(free_port), stdout=full, stderr=full
        )
    until(lambda: cli.run("status", "--port", str(free_port)).returncode == 0)
    assert get(free_port, "/health")[0] == 200
    server.terminate()
    assert server.wait() == 0

"""``logs``: of a running server, of one that has ended, and on and on."""

import os
import signal

import pytest

from tests.process.cli.conftest import CommandLine

pytestmark = pytest.mark.process


def test_of_the_server_that_runs_and_that_has_ended(cli: CommandLine) -> None:
    none = cli.run("logs")
    assert (none.returncode, none.stdout) == (1, "")
    assert "mlx-serve start" in none.stderr
    port = cli.start()
    shown = cli.run("logs")
    assert shown.returncode == 0
    assert f"Running on http://127.0.0.1:{port}" in shown.stdout
    assert cli.run("logs", "-n", "0").stdout == ""
    cli.run("stop", "--all")
    assert f"Running on http://127.0.0.1:{port}" in cli.run("logs", "--port", str(port)).stdout


def test_following_it_through_a_rotation(cli: CommandLine) -> None:
    log = cli.home / "logs/mlx-serve-8000.log"
    log.parent.mkdir()
    log.write_text("first\nhalf")
    seen: list[str] = []
    with cli.spawn("logs", "--follow") as command:
        assert command.stdout is not None
        seen.append(command.stdout.readline())
        with log.open("a") as file:
            file.write(" done\n")
        seen.append(command.stdout.readline())
        log.rename(log.with_name("mlx-serve-8000.log.1"))
        log.write_text("after\x1b[2J\n")
        seen.append(command.stdout.readline())
        command.send_signal(signal.SIGINT)
        assert command.wait(10) == 130
    assert seen == ["first\n", "half done\n", "after\\x1b[2J\n"]


def test_a_reader_who_leaves_ends_it(cli: CommandLine) -> None:
    log = cli.home / "logs/mlx-serve-8000.log"
    log.parent.mkdir()
    log.write_text("first\n")
    reader, writer = os.pipe()
    with cli.spawn("logs", "-f", stdout=writer) as command:
        os.close(writer)
        assert os.read(reader, 100) == b"first\n"
        os.close(reader)
        assert command.wait(50) == 0  # though nothing more is written
    log.unlink()


def test_of_several_servers(cli: CommandLine) -> None:
    ports = [cli.start(), cli.start()]
    told = cli.run("logs")
    assert told.returncode == 1
    assert "choose with --port" in told.stderr
    for port in ports:
        assert f":{port} " in cli.run("logs", "--port", str(port)).stdout

"""The log of a server without a terminal: bounded from its first line on, and never without one."""

import signal

import pytest

from mlx_serve_gateway.cli.log_file import MAX_BYTES
from tests.process.cli.conftest import CommandLine, Finished, get
from tests.waiting import until

pytestmark = pytest.mark.process


def test_in_the_background_a_full_log_is_turned_over(cli: CommandLine, free_port: int) -> None:
    log = cli.home / "logs" / f"mlx-serve-{free_port}.log"
    log.parent.mkdir(mode=0o700)
    with log.open("wb") as full:
        full.write(b"an old line\n")
        full.truncate(MAX_BYTES)
    cli.start("--port", str(free_port))
    assert log.with_name(f"{log.name}.1").stat().st_size >= MAX_BYTES
    assert log.stat().st_size < 10_000
    assert cli.run("stop", "--port", str(free_port)).returncode == 0
    assert "stopping:" in log.read_text()


def test_a_log_file_of_ones_own(cli: CommandLine, free_port: int) -> None:
    log = cli.home / "logs/mine.log"
    arguments = ("start", "--foreground", "--log-file=logs/mine.log", "--port", str(free_port))
    server = cli.spawn(*arguments, cwd=cli.home)
    until(lambda: log.exists() and "is running" in log.read_text(), limit_s=30)
    assert get(free_port, "/livez")[0] == 200
    assert cli.record(free_port)["log"] == str(log)
    server.send_signal(signal.SIGTERM)
    assert server.communicate() == ("", "")
    assert server.returncode == 0


def failed(cli: CommandLine, *arguments: str) -> Finished:
    told = cli.run("start", *arguments)
    assert told.returncode != 0
    return told


def test_failures_are_in_the_log_too(cli: CommandLine) -> None:
    log = cli.home / "logs/mine.log"
    (cli.home / "config.yaml").write_text("prot: 1\n")
    told = failed(cli, "--foreground", f"--log-file={log}")
    assert (told.returncode, told.stderr) == (78, "")
    assert "config.yaml:1: prot" in log.read_text()

    assert failed(cli, f"--log-file={log}").returncode == 64
    log.unlink()
    log.symlink_to(cli.home / "elsewhere")
    told = failed(cli, "--foreground", f"--log-file={log}")
    assert told.returncode == 78
    assert str(log) in told.stderr
    assert not (cli.home / "elsewhere").exists()

"""``start``: exactly one server, or an honest reason why not."""

import os
import signal
import socket
import stat
import subprocess
from pathlib import Path

import psutil
import pytest

from mlx_serve_gateway.pidfile import PidFile
from tests.process.cli.conftest import CommandLine, Running, get
from tests.process.intruders import INTRUDERS
from tests.waiting import until

pytestmark = pytest.mark.process


def test_in_the_background_it_returns_when_the_server_answers(
    cli: CommandLine, free_port: int
) -> None:
    started = cli.run("start", "--port", str(free_port))

    assert started.returncode == 0, started
    pid = cli.pid(free_port)
    log = cli.home / "logs" / f"mlx-serve-{free_port}.log"
    assert started.stdout.splitlines() == [
        f"mlx-serve is running (pid {pid}) at http://127.0.0.1:{free_port}",
        f"log: {log}",
    ]
    status, health = get(free_port, "/health")
    assert status == 200
    record = cli.record(free_port)
    assert (health["pid"], health["instance"]) == (pid, record["instance"])
    for path in (log, cli.home / f"mlx-serve-{free_port}.pid"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    # Nothing ties it to the terminal it came from.
    assert os.getsid(pid) == pid
    process = psutil.Process(pid)
    assert process.cwd() == "/"
    assert process.terminal() is None
    assert "--announce-to" in process.cmdline()
    assert not [child for child in process.children() if child.name() == "mlx-serve"]


def test_a_second_start_finds_the_first(cli: CommandLine) -> None:
    port = cli.start()
    pid = cli.pid(port)
    for where in ((), ("--foreground",)):
        again = cli.run("start", "--port", str(port), *where)
        assert again.returncode == 0, again
        assert again.stdout == f"already running (pid {pid}) at http://127.0.0.1:{port}\n"
    assert cli.pid(port) == pid


@pytest.mark.parametrize("where", [(), ("--foreground",)], ids=["background", "foreground"])
def test_of_twenty_racing_starts_one_serves(
    cli: CommandLine, free_port: int, where: tuple[str, ...]
) -> None:
    racers = [cli.spawn("start", "--port", str(free_port), *where) for _ in range(20)]
    if where:
        until(lambda: sum(racer.poll() is None for racer in racers) == 1)
        winner = next(racer for racer in racers if racer.poll() is None)
        assert cli.pid(free_port) == winner.pid
        winner.terminate()
    told = [racer.communicate() for racer in racers]

    assert [racer.returncode for racer in racers] == [0] * 20, told
    lost = [out for out, _ in told if out.startswith("already running (pid ")]
    assert len(lost) == 19
    assert len(set(lost)) == 1
    if not where:
        assert f"(pid {cli.pid(free_port)})" in lost[0]
        assert len(cli.processes()) == 1


def test_a_port_of_another_program(cli: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for where in ((), ("--foreground",)):
            refused = cli.run("start", "--port", str(port), *where)
            assert refused.returncode == 69, refused
            assert f"port {port} is in use by another program" in refused.stderr
            assert "--port" in refused.stderr
            assert not list(cli.home.glob("*.pid"))


def test_a_port_of_a_server_with_another_home(cli: CommandLine, tmp_path: Path) -> None:
    port = cli.start()
    record = cli.record(port)
    stranger = CommandLine(tmp_path / "elsewhere")
    refused = stranger.run("start", "--port", str(port))
    assert refused.returncode == 69
    assert f"another mlx-serve (pid {record['pid']})" in refused.stderr
    assert cli.record(port) == record
    assert get(port, "/health")[0] == 200


@pytest.mark.parametrize("where", [(), ("--foreground",)], ids=["background", "foreground"])
def test_a_wrong_configuration(cli: CommandLine, where: tuple[str, ...]) -> None:
    file = cli.home / "config.yaml"
    file.write_text("server:\n  host: 127.0.0.1\n  prot: 8001\n")
    refused = cli.run("start", *where)
    assert refused.returncode == 78
    assert refused.stderr.startswith(f"mlx-serve: {file}:3: server.prot: ")
    assert [path.name for path in cli.home.iterdir()] == ["config.yaml"]


def test_a_configuration_elsewhere(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("server: {port: 0}\nmodels: {preload: [absent]}\n")
    port = cli.start(f"--config={file}")
    assert "absent" in cli.run("status", "--port", str(port)).stdout
    missing = cli.run("start", f"--config={tmp_path / 'none.yaml'}")
    assert missing.returncode == 78


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--port", "65536"), 64),
        (("--port", "x"), 64),
        (("--bogus",), 64),
        (("--port", "0", "--host", "no such host"), 78),
        (("--port", "0", "--host", "192.0.2.77"), 78),
    ],
)
def test_flags_that_cannot_work(cli: CommandLine, arguments: tuple[str, ...], code: int) -> None:
    refused = cli.run("start", *arguments)
    assert refused.returncode == code, refused
    assert refused.stderr
    assert "Traceback" not in refused.stderr
    assert cli.processes() == []


def test_a_server_that_fails_before_it_is_ready(cli: CommandLine, short_dir: Path) -> None:
    # A long home would have its sockets elsewhere.
    cli.home = short_dir
    cli.env["MLX_SERVE_HOME"] = str(short_dir)
    (short_dir / "run").write_text("no folder")
    failed = cli.run("start", "--port", "0")
    assert failed.returncode == 70
    assert "ended with exit code 70 before it was ready" in failed.stderr
    assert "is not a directory" in failed.stderr or "File exists" in failed.stderr


def test_a_home_that_cannot_be_used(cli: CommandLine, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    cli.env["MLX_SERVE_HOME"] = str(blocked)
    refused = cli.run("start", "--port", "0")
    assert refused.returncode == 78, refused
    assert str(blocked) in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    cli.env["MLX_SERVE_HOME"] = str(cli.home)


def test_a_long_home_and_no_place_for_temporary_files(cli: CommandLine) -> None:
    cli.home = cli.home / ("h" * 95)
    cli.env |= {"MLX_SERVE_HOME": str(cli.home), "TMPDIR": "/nonexistent"}
    cli.home.mkdir()
    cli.install_fake("tiny")
    port = cli.start("--port", "0", "--preload", "tiny")
    until(lambda: get(port, "/readyz")[0] == 200)


def test_pid_files_that_are_none(cli: CommandLine) -> None:
    (cli.home / "victim").write_text("precious")
    for port, make in enumerate(INTRUDERS.values(), 20_001):
        make(cli.home / f"mlx-serve-{port}.pid")
    before = sorted(cli.home.iterdir())

    assert cli.run("status", "--port", "20001").returncode == 3
    assert cli.run("status").returncode == 3
    for force in ((), ("--force",)):
        stopped = cli.run("stop", "--all", *force)
        assert stopped.returncode == 0
        assert stopped.stdout.count("not running on port 200") == len(INTRUDERS)
    assert sorted(cli.home.iterdir()) == before
    assert (cli.home / "victim").read_text() == "precious"


@pytest.mark.parametrize("kind", ["garbage", "a link", "a directory", "a FIFO"])
def test_a_start_where_something_lies_in_the_way(
    cli: CommandLine, free_port: int, kind: str
) -> None:
    (cli.home / "victim").write_text("precious")
    INTRUDERS[kind](cli.home / f"mlx-serve-{free_port}.pid")
    cli.start("--port", str(free_port))
    assert cli.run("status", "--port", str(free_port)).returncode == 0
    assert cli.run("stop", "--port", str(free_port)).returncode == 0
    assert (cli.home / "victim").read_text() == "precious"
    assert not (cli.home / f"mlx-serve-{free_port}.pid").exists()


def test_a_killed_server_needs_no_cleaning_up(cli: CommandLine, free_port: int) -> None:
    cli.install_fake("tiny")
    cli.start("--port", str(free_port), "--preload", "tiny")
    until(lambda: get(free_port, "/readyz")[0] == 200)
    os.kill(cli.pid(free_port), signal.SIGKILL)
    cli.start("--port", str(free_port))


def test_while_the_previous_one_drains(cli: CommandLine, free_port: int) -> None:
    cli.install_fake("slow", step_s=2)
    cli.start("--port", str(free_port))
    first = cli.pid(free_port)
    running = Running(free_port, "slow", "text")
    os.kill(first, signal.SIGTERM)

    started = cli.run("start", "--port", str(free_port))
    assert started.returncode == 0, started
    assert f"waiting for pid {first}, which is stopping" in started.stderr
    assert running.status() == 200
    assert cli.pid(free_port) != first
    assert get(free_port, "/health")[1]["pid"] == cli.pid(free_port)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_start_that_is_given_up_leaves_no_server(
    cli: CommandLine, free_port: int, signum: signal.Signals
) -> None:
    # Held by this process, which never says who it is: the server waits for its turn.
    held = PidFile.acquire(cli.home, free_port)
    waiting = cli.spawn("start", "--port", str(free_port))
    until(lambda: len(cli.processes()) == 2)
    waiting.send_signal(signum)
    waiting.communicate()
    assert waiting.returncode == 130
    assert cli.processes() == []
    held.remove()


def test_a_predecessor_that_never_ends(cli: CommandLine, free_port: int) -> None:
    (cli.home / "config.yaml").write_text("limits: {drain_timeout: 0.01}\n")
    cli.start("--port", str(free_port))
    pid = cli.pid(free_port)
    os.kill(pid, signal.SIGSTOP)
    refused = cli.run("start", "--port", str(free_port))
    assert refused.returncode == 75
    assert f"pid {pid} holds port {free_port} and does not answer" in refused.stderr
    assert "--force" in refused.stderr


def test_the_network_is_told_about(cli: CommandLine) -> None:
    started = cli.run("start", "--port", "0", "--host", "0.0.0.0")
    assert started.returncode == 0
    assert "Inference is open to your network at http://" in started.stderr
    assert "this machine" in started.stderr


def test_few_open_files(cli: CommandLine) -> None:
    def limited(soft: int, hard: int) -> subprocess.CompletedProcess[str]:
        command = " ".join(cli.command("start", "--port", "0"))
        script = f"ulimit -Sn {soft}; ulimit -Hn {hard}; exec {command}"
        return subprocess.run(
            ["sh", "-c", script], env=cli.env, capture_output=True, text=True, timeout=50
        )

    raised = limited(256, 5000)
    assert raised.returncode == 0
    assert "open files" not in raised.stderr
    low = limited(256, 256)
    assert low.returncode == 0
    assert "only 256 open files are allowed" in low.stderr

"""``status`` and ``mlx-serve-ctl``: what runs, as it is."""

import os
import signal

import msgspec
import pytest

from mlx_serve_common import VERSION
from mlx_serve_gateway.pidfile import PidFile
from tests.process.cli.conftest import CommandLine, get
from tests.waiting import until

pytestmark = pytest.mark.process


def test_nothing_runs(cli: CommandLine, free_port: int) -> None:
    down = cli.run("status", "--port", str(free_port))
    assert (down.returncode, down.stdout) == (3, f"not running on port {free_port}\n")
    (cli.home / "config.yaml").write_text(f"server: {{port: {free_port}}}\n")
    down = cli.run("status")
    assert (down.returncode, down.stdout) == (3, f"not running on port {free_port}\n")
    down = cli.run("status", "--json")
    assert down.returncode == 3
    (instance,) = msgspec.json.decode(down.stdout)["instances"]
    assert (instance["port"], instance["state"]) == (free_port, "down")


def test_a_server_with_a_worker(cli: CommandLine) -> None:
    cli.install_fake("작은-모델")
    port = cli.start("--port", "0", "--preload", "작은-모델")
    until(lambda: get(port, "/readyz")[0] == 200)
    pid = cli.pid(port)

    for arguments in ((), ("--port", str(port))):
        up = cli.run("status", *arguments)
        assert up.returncode == 0
        first, log, header, worker = up.stdout.splitlines()
        assert first.startswith(f"mlx-serve {VERSION} running, pid {pid}, up ")
        assert first.endswith(f", http://127.0.0.1:{port} (bound to 127.0.0.1)")
        assert log == f"log: {cli.home}/logs/mlx-serve-{port}.log"
        assert header.split()[-4:] == ["PID", "MEMORY", "INFLIGHT/QUEUED", "RESTARTS"]
        assert worker.split()[:3] == ["작은-모델", "embedding", "ready"]
        assert worker.split()[-2:] == ["0/0", "0"]

    up = cli.run("status", "--json")
    (instance,) = msgspec.json.decode(up.stdout)["instances"]
    detail = get(port, "/health/detail")[1]
    assert instance["state"] == "up"
    assert instance["health"].keys() == detail.keys()
    assert instance["health"]["workers"][0].keys() == detail["workers"][0].keys()


def test_several_servers_and_one_that_hangs(cli: CommandLine) -> None:
    well, hung = cli.start(), cli.start()
    assert cli.run("status").returncode == 0
    os.kill(cli.pid(hung), signal.SIGSTOP)
    seen = cli.run("status")
    assert seen.returncode == 1
    assert f"NOT RESPONDING: pid {cli.pid(hung)} at http://127.0.0.1:{hung}" in seen.stdout
    assert f"pid {cli.pid(well)}" in seen.stdout
    assert cli.run("status", "--port", str(well)).returncode == 0
    assert cli.run("status", "--port", str(hung)).returncode == 1


def test_a_server_that_starts(cli: CommandLine, free_port: int) -> None:
    held = PidFile.acquire(cli.home, free_port)
    seen = cli.run("status")
    assert (seen.returncode, seen.stdout) == (1, f"starting on port {free_port}\n")
    held.remove()


def test_a_broken_configuration_hides_nothing(cli: CommandLine) -> None:
    cli.start()
    (cli.home / "config.yaml").write_text("bogus: 1\n")
    assert cli.run("status").returncode == 0


def test_ctl(cli: CommandLine, free_port: int) -> None:
    cli.install_fake("tiny")
    port = cli.start("--port", "0", "--preload", "tiny", "--preload", "absent")
    until(lambda: not get(port, "/readyz")[1]["reasons"][0].startswith("tiny"))
    url = ("--url", f"http://127.0.0.1:{port}")

    status = cli.run("status", *url, program="ctl")
    assert status.returncode == 0
    assert status.stdout.startswith(f"mlx-serve {VERSION} DEGRADED, pid {cli.pid(port)}, up ")
    assert "problem: absent: " in status.stdout
    assert msgspec.json.decode(cli.run("status", *url, "--json", program="ctl").stdout).keys() == (
        get(port, "/health/detail")[1].keys()
    )
    ps = cli.run("ps", *url, program="ctl")
    assert ps.returncode == 0
    assert ps.stdout.splitlines()[1].split()[:3] == ["tiny", "embedding", "ready"]

    nothing = cli.run("ps", "--url", f"http://127.0.0.1:{free_port}", program="ctl")
    assert nothing.returncode == 3
    assert "nothing listens there" in nothing.stderr
    for wrong in ("ftp://x", "127.0.0.1:8000", "http://", "http://x:y"):
        refused = cli.run("ps", "--url", wrong, program="ctl")
        assert refused.returncode == 64
        assert "--url is not an address" in refused.stderr

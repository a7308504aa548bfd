"""``mlx-serve service`` and ``stop`` with a launchd that is played, and a server that is real."""

import os
import plistlib

import pytest

from tests.process.cli.conftest import get
from tests.process.supervision.conftest import Serviced

pytestmark = pytest.mark.process

TARGET = f"gui/{os.getuid()}/local.mlx-serve"


def test_a_life(launchd: Serviced) -> None:
    ours = launchd.cli.home / "service/local.mlx-serve.plist"
    theirs = launchd.user_home / "Library/LaunchAgents/local.mlx-serve.plist"
    assert launchd.service("status").returncode == 3
    assert launchd.done("install").stdout == f"installed: {ours}\nit does not start at login\n"
    assert launchd.calls() == []

    started = launchd.done("start")
    assert launchd.calls() == [f"bootstrap gui/{os.getuid()} {ours}"]
    pid = get(launchd.port, "/health")[1]["pid"]
    assert started.stdout == f"the service runs (pid {pid}) at http://127.0.0.1:{launchd.port}\n"
    assert "already" in launchd.done("start").stdout
    assert f"running (pid {pid})" in launchd.done("status").stdout
    log = launchd.cli.home / "logs/service.log"
    assert f"mlx-serve is running (pid {pid})" in log.read_text()
    assert launchd.cli.record(launchd.port)["log"] == str(log)

    # While it runs, and it goes on.
    launchd.done("enable")
    assert (theirs.exists(), ours.exists()) == (True, False)
    assert launchd.done("install").stdout == f"already installed: {theirs}\nit starts at login\n"
    launchd.done("disable")
    assert (theirs.exists(), ours.exists()) == (False, True)
    assert get(launchd.port, "/health")[1]["pid"] == pid

    assert launchd.calls() == []
    assert launchd.done("stop").stdout == "stopped the service\n"
    assert launchd.calls() == [f"bootout {TARGET}"]
    assert launchd.done("stop").stdout == "the service does not run\n"
    launchd.done("uninstall")
    assert not ours.exists()
    assert launchd.done("uninstall").stdout == "the service is not installed\n"


def test_auto_start(launchd: Serviced) -> None:
    launchd.configure(
        "service: {auto_start: true, restart_on_failure: false, restart_delay: 0.5}\n"
    )
    for word in ("installed", "already installed"):
        assert launchd.done("install").stdout.startswith(f"{word}: ")
    file = launchd.user_home / "Library/LaunchAgents/local.mlx-serve.plist"
    entries = plistlib.loads(file.read_bytes())
    assert "KeepAlive" not in entries
    assert entries["ThrottleInterval"] == 1
    launchd.done("uninstall")
    assert not file.exists()


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
def test_stop_goes_through_launchd(launchd: Serviced, force: tuple[str, ...]) -> None:
    launchd.done("install")
    launchd.done("start")
    launchd.calls()
    stopped = launchd.run("stop", *force)
    assert stopped.returncode == 0, stopped
    assert f"stopped the server on port {launchd.port}" in stopped.stdout
    assert launchd.calls() == [f"bootout {TARGET}"]


def test_stop_goes_through_what_homebrew_has_set_up(launchd: Serviced) -> None:
    launchd.done("install")
    launchd.done("start")
    ours = launchd.cli.home / "service/local.mlx-serve.plist"
    agents = launchd.user_home / "Library/LaunchAgents"
    agents.mkdir(parents=True)
    ours.rename(agents / "homebrew.mxcl.mlx-serve.plist")
    launchd.calls()
    assert launchd.run("stop").returncode == 0
    assert launchd.calls() == [f"bootout gui/{os.getuid()}/homebrew.mxcl.mlx-serve"]


def test_a_label_that_is_not_free_yet_is_waited_for(launchd: Serviced) -> None:
    launchd.done("install")
    launchd.refuse("bootstrap", "5 Bootstrap failed: 5: Input/output error\n" * 2)
    launchd.done("start")
    assert len(launchd.calls()) == 3
    launchd.refuse("bootout", "36 Boot-out failed: 36: Operation now in progress\n")
    launchd.run("stop", "--timeout", "0.1")
    assert launchd.done("stop").returncode == 0


def test_launchd_refuses(launchd: Serviced) -> None:
    launchd.done("install")
    launchd.refuse("bootstrap", "125 Domain does not support specified action\n")
    nobody = launchd.service("start")
    assert nobody.returncode == 1
    assert "mlx-serve service install --daemon" in nobody.stderr
    launchd.refuse("bootstrap", "119 Service is disabled\n")
    refused = launchd.service("start")
    assert refused.returncode == 1
    assert "exit code 119: Service is disabled" in refused.stderr
    assert "logs/service.log" in refused.stderr


def test_a_service_of_the_machine_is_for_root(launchd: Serviced) -> None:
    told = launchd.done("install", "--daemon")
    staged = launchd.cli.home / "service/daemon/local.mlx-serve.plist"
    place = "/Library/LaunchDaemons/local.mlx-serve.plist"
    assert told.stdout.splitlines() == [
        f"sudo install -m 644 -o root -g wheel {staged} {place}",
        f"sudo launchctl bootstrap system {place}",
    ]
    assert plistlib.loads(staged.read_bytes())["UserName"]
    assert launchd.calls() == []

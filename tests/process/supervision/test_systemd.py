"""``mlx-serve service`` and ``stop`` with a systemd that is played, and a server that is real."""

import socket

import msgspec
import pytest

from tests.process.cli.conftest import Running, get
from tests.process.supervision.conftest import Serviced

pytestmark = pytest.mark.process


def test_a_life(systemd: Serviced) -> None:
    unit = systemd.user_home / ".config/systemd/user/mlx-serve.service"
    assert systemd.service("status").returncode == 3
    installed = systemd.done("install")
    assert installed.stdout == f"installed: {unit}\nit does not start at login\n"
    assert "mlx-serve service enable" in installed.stderr
    assert systemd.calls() == ["daemon-reload"]

    started = systemd.done("start")
    assert systemd.calls() == ["start mlx-serve.service"]
    pid = get(systemd.port, "/health")[1]["pid"]
    url = f"http://127.0.0.1:{systemd.port}"
    assert started.stdout == f"the service runs (pid {pid}) at {url}\n"
    assert systemd.done("start").stdout == f"the service runs already (pid {pid})\n"
    assert systemd.calls() == []

    seen = msgspec.json.decode(systemd.done("status", "--json").stdout)
    assert seen["state"] == {
        "supervisor": "systemd",
        "definition": str(unit),
        "enabled": False,
        "activity": "running",
        "pid": pid,
        "detail": "serving",
    }
    assert (seen["outdated"], seen["server"]["url"]) == (False, url)
    assert f"running (pid {pid}): serving" in systemd.done("status").stdout

    assert systemd.done("stop").stdout == "stopped the service\n"
    assert systemd.calls() == ["stop --no-block mlx-serve.service"]
    assert systemd.done("stop").stdout == "the service does not run\n"
    assert systemd.service("status").returncode == 3

    systemd.done("uninstall")
    assert systemd.calls() == [
        "disable --quiet mlx-serve.service",
        "daemon-reload",
        "reset-failed mlx-serve.service",
    ]
    assert not unit.exists()
    assert systemd.done("uninstall").stdout == "the service is not installed\n"
    assert systemd.calls() == []


def test_json_shows_how_the_service_is_then(systemd: Serviced) -> None:
    def told(*arguments: str) -> dict[str, object]:
        ran = systemd.done(*arguments, "--json")
        assert ran.stdout.count("\n") == 1
        assert "\n" in ran.stderr, "people are told as well"
        seen: dict[str, object] = msgspec.json.decode(ran.stdout)["state"]
        return seen

    assert told("install")["enabled"] is False
    assert told("enable")["enabled"] is True
    assert told("disable")["enabled"] is False
    started = told("start")
    assert started["activity"] == "running"
    assert started == msgspec.json.decode(systemd.done("status", "--json").stdout)["state"]
    assert told("start") == started
    assert told("stop")["activity"] == "stopped"
    assert told("uninstall")["definition"] is None
    both = systemd.service("install", "--print", "--json")
    assert (both.returncode, both.stdout) == (64, "")


def test_installing_again_changes_nothing_and_brings_up_to_date(systemd: Serviced) -> None:
    systemd.configure("service: {auto_start: true, restart_on_failure: false, restart_delay: 7}\n")
    first = systemd.done("install")
    assert first.stdout.endswith("it starts at login\n")
    assert systemd.calls() == ["daemon-reload", "enable --quiet mlx-serve.service"]
    unit = systemd.user_home / ".config/systemd/user/mlx-serve.service"
    assert "\nRestart=no\nRestartSec=7\n" in unit.read_text()
    before = unit.read_text()
    assert systemd.done("install").stdout.startswith("already installed: ")
    assert unit.read_text() == before

    # A person's own wish stands above the configuration that only says how to begin.
    systemd.done("disable")
    systemd.configure("")
    assert systemd.done("enable").stdout == "the service starts at login\n"
    assert "not up to date" in systemd.service("status").stderr
    again = systemd.done("install")
    assert again.stdout == f"updated: {unit}\nit starts at login\n"
    assert "\nRestart=on-failure\nRestartSec=5\n" in unit.read_text()


@pytest.mark.parametrize("how", [("--all",), ("--force",)], ids=["all", "force"])
def test_stop_goes_through_systemd(systemd: Serviced, how: tuple[str, ...]) -> None:
    systemd.done("install")
    systemd.done("start")
    systemd.calls()
    stopped = systemd.run("stop", *how)
    assert stopped.returncode == 0, stopped
    assert f"stopped the server on port {systemd.port}" in stopped.stdout
    assert systemd.calls() == ["stop --no-block mlx-serve.service"]
    assert systemd.service("status").returncode == 3


def test_requests_in_flight_are_finished(systemd: Serviced) -> None:
    """One signal and not two: the second would end the server at once."""
    systemd.cli.install_fake("slow", step_s=1.0)
    systemd.done("install")
    systemd.done("start")
    running = Running(systemd.port, "slow", "text")
    assert systemd.run("stop").returncode == 0
    assert running.status() == 200


def test_a_server_that_is_not_the_service_is_stopped_without_systemd(systemd: Serviced) -> None:
    systemd.done("install")
    assert systemd.run("start").returncode == 0
    systemd.calls()
    refused = systemd.service("start")
    assert refused.returncode == 69
    assert f"mlx-serve stop --port {systemd.port}" in refused.stderr
    assert systemd.run("stop").returncode == 0
    assert systemd.calls() == []


def test_systemd_refuses(systemd: Serviced) -> None:
    for verb in ("start", "stop", "enable", "disable"):
        refused = systemd.service(verb)
        assert refused.returncode == 1
        assert "mlx-serve service install" in refused.stderr
    systemd.done("install")
    systemd.refuse("start", "Job for mlx-serve.service failed.\n")
    failed = systemd.service("start")
    assert failed.returncode == 1
    assert "Job for mlx-serve.service failed." in failed.stderr
    assert "journalctl --user --unit mlx-serve.service" in failed.stderr

    systemd.refuse("daemon-reload", "Failed to connect to bus: No medium found\n")
    failed = systemd.service("install")
    assert failed.returncode == 1
    assert "loginctl enable-linger" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_service_that_keeps_failing_is_told(systemd: Serviced) -> None:
    systemd.done("install")
    (systemd.folder / "show").write_text(
        "ActiveState=activating\nSubState=auto-restart\nMainPID=0\nResult=exit-code\n"
    )
    seen = systemd.service("status")
    assert seen.returncode == 1
    assert "failed: exit-code; it will be started again" in seen.stdout


def test_a_wrong_configuration_reaches_nobody(systemd: Serviced) -> None:
    systemd.done("install")
    systemd.calls()
    systemd.configure("sevrice: {}\n")
    for verb in ("install", "start"):
        refused = systemd.service(verb)
        assert refused.returncode == 78
        assert "config.yaml:2: sevrice" in refused.stderr
    assert systemd.calls() == []
    seen = systemd.service("status", "--json")
    assert seen.returncode == 3
    assert "config.yaml:2: sevrice" in seen.stderr
    assert msgspec.json.decode(seen.stdout)["outdated"] is None


def test_a_port_that_another_program_has_is_told_before_systemd_fails(systemd: Serviced) -> None:
    systemd.done("install")
    systemd.calls()
    with socket.create_server(("127.0.0.1", systemd.port)):
        refused = systemd.service("start")
    assert refused.returncode == 69
    assert f"port {systemd.port} is in use by another program" in refused.stderr
    assert systemd.calls() == []


def test_what_the_service_will_not_see(systemd: Serviced) -> None:
    systemd.cli.env["MLX_SERVE_SERVICE_RESTART_DELAY"] = "77"
    told = systemd.done("install")
    assert "does not see MLX_SERVE_SERVICE_RESTART_DELAY; put that into config" in told.stderr
    assert "RestartSec=5\n" in systemd.done("install", "--print").stdout


def test_printing_changes_nothing(systemd: Serviced) -> None:
    printed = systemd.done("install", "--print")
    assert printed.stdout.startswith("# Written by")
    assert "User=" in systemd.done("install", "--print", "--daemon").stdout
    assert systemd.calls() == []
    assert not (systemd.user_home / ".config").exists()
    assert [path.name for path in systemd.cli.home.iterdir()] == ["config.yaml"]


def test_a_service_of_the_machine_is_for_root(systemd: Serviced) -> None:
    told = systemd.done("install", "--daemon")
    staged = systemd.cli.home / "service/daemon/mlx-serve.service"
    assert told.stdout.splitlines() == [
        f"sudo install -m 644 {staged} /etc/systemd/system/mlx-serve.service",
        "sudo systemctl daemon-reload",
        "sudo systemctl enable --now mlx-serve.service",
    ]
    assert "User=" in staged.read_text()
    as_json = msgspec.json.decode(systemd.done("install", "--daemon", "--json").stdout)
    assert as_json == {"definition": str(staged), "commands": told.stdout.splitlines()}
    assert systemd.calls() == []

"""The property list, read back as launchd reads it."""

import plistlib
from typing import Any

import pytest

from mlx_serve_gateway.supervision.plist import agent, daemon
from mlx_serve_gateway.supervision.service import Service, service_log
from tests.unit.gateway.supervision.services import SERVICE, service

# The keys of launchd.plist(5) that are in use, and their types there.
TYPES: dict[str, type] = {
    "Label": str,
    "ProgramArguments": list,
    "EnvironmentVariables": dict,
    "WorkingDirectory": str,
    "StandardOutPath": str,
    "StandardErrorPath": str,
    "Umask": int,
    "RunAtLoad": bool,
    "KeepAlive": dict,
    "ThrottleInterval": int,
    "ExitTimeOut": int,
    "ProcessType": str,
    "SoftResourceLimits": dict,
    "UserName": str,
}


def entries(content: bytes) -> dict[str, Any]:
    read: dict[str, Any] = plistlib.loads(content)
    for key, value in read.items():
        assert type(value) is TYPES[key], key
    return read


def test_every_key() -> None:
    log = str(service_log(SERVICE.home))
    assert entries(agent(SERVICE)) == {
        "Label": "local.mlx-serve",
        "ProgramArguments": [*SERVICE.program, "start", "--foreground", f"--log-file={log}"],
        "EnvironmentVariables": {
            "HOME": "/home/김",
            "MLX_SERVE_HOME": str(SERVICE.home),
            "PATH": "/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        },
        "WorkingDirectory": "/",
        "StandardOutPath": log,
        "StandardErrorPath": log,
        "Umask": 0o077,
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 3,
        "ExitTimeOut": 45,
        "ProcessType": "Interactive",
        "SoftResourceLimits": {"NumberOfFiles": 8192},
    }


def test_a_daemon_runs_as_the_person_who_installs_it() -> None:
    as_daemon = entries(daemon(SERVICE))
    assert as_daemon.pop("UserName") == "kim"
    assert as_daemon == entries(agent(SERVICE))


def test_without_restarts() -> None:
    assert "KeepAlive" not in entries(agent(service(restart_on_failure=False)))
    # launchd takes a zero for its own ten seconds.
    assert entries(agent(service(restart_delay_s=0.0)))["ThrottleInterval"] == 1


@pytest.mark.parametrize("render", [agent, daemon])
def test_what_cannot_be_written_is_refused(render: Any) -> None:
    wrong: Service = service(program=("/a\x00b", "-m", "x"))
    with pytest.raises(ValueError, match="control characters"):
        render(wrong)

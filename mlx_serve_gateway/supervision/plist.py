"""The property list for launchd: an agent of the user, or a daemon of the machine.

Invariants: nothing in it needs a shell; launchd expands neither ``~`` nor variables, and starts
programs with a bare PATH.
"""

import math
import plistlib
from typing import Any

from mlx_serve_gateway.supervision.service import Service, service_log

LABEL = "local.mlx-serve"

_PATH = "/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_OPEN_FILES = 8192


def agent(service: Service) -> bytes:
    return plistlib.dumps(_entries(service))


def daemon(service: Service) -> bytes:
    return plistlib.dumps(_entries(service) | {"UserName": service.user})


def _entries(service: Service) -> dict[str, Any]:
    log = str(service_log(service.home))
    environment = {"HOME": str(service.user_home), "PATH": _PATH, **service.environment}
    # launchd keeps no log: the server keeps its own within bounds. What is said before it can is
    # caught by the two paths.
    start = ("start", "--foreground", f"--log-file={log}")
    entries: dict[str, Any] = {
        "Label": LABEL,
        "ProgramArguments": [*service.program, *start],
        "EnvironmentVariables": environment,
        "WorkingDirectory": "/",
        "StandardOutPath": log,
        "StandardErrorPath": log,
        "Umask": 0o077,
        "RunAtLoad": True,
        "ThrottleInterval": max(1, math.ceil(service.restart_delay_s)),
        "ExitTimeOut": service.stop_timeout_s,
        # Without it launchd holds back the CPU and the disk of what no person looks at.
        "ProcessType": "Interactive",
        "SoftResourceLimits": {"NumberOfFiles": _OPEN_FILES},
    }
    if service.restart_on_failure:
        entries["KeepAlive"] = {"SuccessfulExit": False}
    return entries

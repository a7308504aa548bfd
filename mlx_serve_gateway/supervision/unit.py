"""The unit file for systemd: one for the user's own manager, a hardened one for the machine's.

Invariants: a path arrives at the program as it is; one that a unit file cannot hold is refused.
"""

import re

from mlx_serve_gateway.supervision.service import Service

NAME = "mlx-serve.service"

# A server that misses it for this long is ended and started anew.
WATCHDOG_S = 30

_UNIT = """\
# Written by `mlx-serve service install`, which writes it anew: changes of your own go into
# `systemctl{user_flag} edit {name}`.

[Unit]
Description=mlx-serve inference server
# Whoever runs a server wants it back, also after the twentieth failure in a row.
StartLimitIntervalSec=0
{dependencies}
[Service]
Type=notify
NotifyAccess=main
# The colon: a dollar sign in a path is a dollar sign.
ExecStart=:{command}
ExecReload=/bin/kill -HUP $MAINPID
{account}Environment={environment}
WorkingDirectory=/
UMask=0077
Restart={restart}
RestartSec={delay:g}
# The configuration is wrong: starting again cannot help.
RestartPreventExitStatus=78
TimeoutStartSec={start_s}
TimeoutStopSec={stop_s}
WatchdogSec={watchdog_s}
# Only the server is asked to stop; it lets its workers finish.
KillMode=mixed
{hardening}
[Install]
WantedBy={target}
"""

_HARDENING = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
"""

# Not for a user's unit: before systemd 254 its manager ignores these without a word. Devices stay
# reachable, for a GPU; memory may be executable, for code that MLX compiles.
_MACHINE_HARDENING = """\
CapabilityBoundingSet=
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=read-only
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_IN_A_PROGRAM = re.compile(r"[\x00-\x1f\x7f\"'\\]")


def user_unit(service: Service) -> str:
    return _UNIT.format(
        user_flag=" --user",
        dependencies="",
        account="",
        hardening=_HARDENING,
        target="default.target",
        **_common(service),
    )


def machine_unit(service: Service) -> str:
    # The dash: the service starts without that folder too.
    writable = " ".join(_quoted(text) for text in (str(service.home), f"-{service.models}"))
    return _UNIT.format(
        user_flag="",
        dependencies="Wants=network-online.target\nAfter=network-online.target\n",
        account=f"User={service.user}\n",
        hardening=f"{_HARDENING}{_MACHINE_HARDENING}ReadWritePaths={writable}\n",
        target="multi-user.target",
        **_common(service),
    )


def _common(service: Service) -> dict[str, object]:
    if _NOT_IN_A_PROGRAM.search(service.program[0]):
        raise ValueError(f"systemd refuses a quote or a backslash in {service.program[0]!r}")
    arguments = (*service.program, "start", "--foreground")
    variables = (f"{name}={value}" for name, value in service.environment.items())
    return {
        "name": NAME,
        "command": " ".join(map(_quoted, arguments)),
        "environment": " ".join(map(_quoted, variables)),
        "restart": "on-failure" if service.restart_on_failure else "no",
        "delay": service.restart_delay_s,
        "start_s": service.start_timeout_s,
        "stop_s": service.stop_timeout_s,
        "watchdog_s": WATCHDOG_S,
    }


def _quoted(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError(f"{text!r} holds a control character, which a unit file cannot")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'

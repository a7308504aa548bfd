"""The service under systemd: a unit of the user's own manager, or one of the machine's."""

import os
import shlex
from pathlib import Path
from typing import Self

from mlx_serve_gateway.supervision import definition
from mlx_serve_gateway.supervision.service import Service
from mlx_serve_gateway.supervision.state import Activity, State
from mlx_serve_gateway.supervision.tool import LIMIT_S, SupervisorFailed, ask, refused
from mlx_serve_gateway.supervision.unit import NAME, machine_unit, user_unit

_MACHINE_UNITS = Path("/etc/systemd/system")
# systemd's own record of who may have services without a login.
_LINGERING = Path("/var/lib/systemd/linger")
_MARGIN_S = 10.0

_PROPERTIES = "ActiveState,SubState,MainPID,UnitFileState,Result,StatusText"
_ACTIVITIES: dict[str, Activity] = {
    "active": "running",
    "reloading": "running",
    "activating": "starting",
    "deactivating": "stopping",
    "failed": "failed",
}
_NO_BUS = (
    "no systemd manager of this user can be reached: log in as that user (not through su or sudo), "
    "or let it run without a login: loginctl enable-linger"
)


class Systemd:
    file_name = NAME

    def __init__(self, flags: tuple[str, ...], units: Path) -> None:
        self._flags = flags
        self._path = units / NAME
        self.log_command = " ".join(("journalctl", *flags, "--unit", NAME))

    @classmethod
    def user(cls) -> Self:
        configured = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
        return cls(("--user",), Path(configured).expanduser() / "systemd/user")

    @classmethod
    def machine(cls) -> Self:
        return cls((), _MACHINE_UNITS)

    def rendered(self, service: Service) -> bytes:
        unit = user_unit(service) if self._flags else machine_unit(service)
        return unit.encode()

    def installed(self) -> bytes | None:
        return definition.read(self._path)

    def install(self, content: bytes) -> Path:
        definition.write(self._path, content)
        self._demand("daemon-reload")
        return self._path

    def uninstall(self) -> None:
        self._demand("disable", "--quiet", NAME)
        self._path.unlink(missing_ok=True)
        self._demand("daemon-reload")
        # Else a failure of the past would still be listed.
        ask(*self._command("reset-failed", NAME))

    def set_enabled(self, enabled: bool) -> None:
        self._demand("enable" if enabled else "disable", "--quiet", NAME)

    def state(self) -> State:
        if not self._path.exists():
            return State(supervisor="systemd", definition=None, enabled=False, activity="stopped")
        told = self._demand("show", f"--property={_PROPERTIES}", NAME)
        found = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
        activity = _ACTIVITIES.get(found.get("ActiveState", ""), "stopped")
        detail = found.get("Result" if activity == "failed" else "StatusText")
        if found.get("SubState") == "auto-restart":
            activity, detail = "failed", f"{found.get('Result')}; it will be started again"
        return State(
            supervisor="systemd",
            definition=str(self._path),
            enabled=found.get("UnitFileState", "").startswith("enabled"),
            activity=activity,
            pid=int(found.get("MainPID", "0")) or None,
            detail=detail or None,
        )

    def start(self, limit_s: float) -> None:
        """Returns when the server answers: its unit is of the type that tells."""
        self._demand("start", NAME, limit_s=limit_s + _MARGIN_S)

    def request_stop(self) -> None:
        try:
            self._demand("stop", "--no-block", NAME)
        except SupervisorFailed as error:
            if self._flags:
                raise
            raise SupervisorFailed(f"{error}; run: sudo systemctl stop {NAME}") from None

    def root_commands(self, staged: Path) -> list[str]:
        source, target = shlex.quote(str(staged)), shlex.quote(str(self._path))
        return [
            f"sudo install -m 644 {source} {target}",
            "sudo systemctl daemon-reload",
            f"sudo systemctl enable --now {NAME}",
        ]

    def root_removal(self) -> list[str]:
        return [
            f"sudo systemctl disable --now {NAME}",
            f"sudo rm {shlex.quote(str(self._path))}",
            "sudo systemctl daemon-reload",
        ]

    def advice(self, user: str) -> str | None:
        if not self._flags or (_LINGERING / user).exists():
            return None
        return f"loginctl enable-linger {shlex.quote(user)}"

    def _command(self, *arguments: str) -> tuple[str, ...]:
        return ("systemctl", *self._flags, "--no-ask-password", *arguments)

    def _demand(self, *arguments: str, limit_s: float = LIMIT_S) -> str:
        command = self._command(*arguments)
        told = ask(*command, limit_s=limit_s)
        if told.code == 0:
            return told.out
        if "Failed to connect to bus" in told.complaint and self._flags:
            raise SupervisorFailed(_NO_BUS)
        raise refused(told, *command)

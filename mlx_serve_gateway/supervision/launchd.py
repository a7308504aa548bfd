"""The service under launchd: an agent of the user, or a daemon of the machine.

An agent that is not to start at login lies in our own folder, for launchd starts whatever lies in
its own: ``RunAtLoad: false`` has no effect beside ``KeepAlive.SuccessfulExit``, which implies that
it is true.

Invariants: a stopped service is not loaded; a loaded one was started.
"""

import os
import re
import shlex
from pathlib import Path
from time import monotonic, sleep
from typing import Self

from mlx_serve_gateway.supervision import definition, plist
from mlx_serve_gateway.supervision.service import Service, service_log
from mlx_serve_gateway.supervision.state import Activity, State
from mlx_serve_gateway.supervision.tool import (
    SupervisorFailed,
    SupervisorSilent,
    Told,
    ask,
    refused,
)

_HOMEBREW_LABEL = "homebrew.mxcl.mlx-serve"
_AGENTS = Path("~/Library/LaunchAgents")
_DAEMONS = Path("/Library/LaunchDaemons")

# launchctl's exit codes are error numbers of its own and of the system.
_NO_SUCH_PROCESS = 3
_INPUT_OUTPUT = 5
_IN_PROGRESS = {36, 37}
_NOT_FOUND = 113
_NO_SUCH_DOMAIN = 125

# A label stays taken for a moment after its service has gone, and a bootstrap then fails with 5.
_SETTLE_S = 10.0
_POLL_S = 0.25
# launchctl may wait for the end of a service that it takes out; we wait for that ourselves.
_BOOTOUT_S = 3.0

_NOBODY = (
    "nobody is logged in at the screen of this Mac, and its agents run only then; for a Mac "
    "without a screen: mlx-serve service install --daemon"
)

_PID = re.compile(r"^\s*pid = (\d+)$", re.MULTILINE)
_LAST_EXIT = re.compile(r"^\s*last exit code = (\d+)", re.MULTILINE)
_SIGNAL = re.compile(r"^\s*last terminating signal = (.+)$", re.MULTILINE)


class Launchd:
    file_name = f"{plist.LABEL}.plist"

    def __init__(self, domain: str, label: str, log: Path, *places: Path) -> None:
        self._domain = domain
        self._target = f"{domain}/{label}"
        self._places = places
        """Where the definition may lie: first where launchd starts it by itself."""
        self.log_command = f"tail {shlex.quote(str(log))}"

    @classmethod
    def agent(cls, home: Path) -> Self:
        places = _AGENTS.expanduser() / cls.file_name, home / "service" / cls.file_name
        return cls(f"gui/{os.getuid()}", plist.LABEL, service_log(home), *places)

    @classmethod
    def homebrew(cls, home: Path) -> Self:
        """What ``brew services`` has set up."""
        place = _AGENTS.expanduser() / f"{_HOMEBREW_LABEL}.plist"
        return cls(f"gui/{os.getuid()}", _HOMEBREW_LABEL, service_log(home), place)

    @classmethod
    def machine(cls, home: Path) -> Self:
        return cls("system", plist.LABEL, service_log(home), _DAEMONS / cls.file_name)

    def rendered(self, service: Service) -> bytes:
        return plist.daemon(service) if self._domain == "system" else plist.agent(service)

    def installed(self) -> bytes | None:
        return definition.read(self._place())

    def install(self, content: bytes) -> Path:
        definition.write(self._place(), content)
        return self._place()

    def uninstall(self) -> None:
        self._place().unlink()

    def set_enabled(self, enabled: bool) -> None:
        before = self._place()
        after = self._places[0 if enabled else -1]
        if before != after:
            definition.write(after, definition.read(before) or b"")
            before.unlink()

    def state(self) -> State:
        place = self._place()
        if not place.exists():
            return State(supervisor="launchd", definition=None, enabled=False, activity="stopped")
        command = ("launchctl", "print", self._target)
        told = ask(*command)
        if told.code not in (0, _NOT_FOUND, _NO_SUCH_DOMAIN):
            raise refused(told, *command)
        activity, pid, detail = _seen(told)
        return State(
            supervisor="launchd",
            definition=str(place),
            enabled=place == self._places[0],
            activity=activity,
            pid=pid,
            detail=detail,
        )

    def start(self, limit_s: float) -> None:
        """Returns when launchd has started it; launchd does not know when it answers."""
        deadline = monotonic() + min(limit_s, _SETTLE_S)
        while not self._try_start(can_wait=monotonic() < deadline):
            sleep(_POLL_S)

    def request_stop(self) -> None:
        command = ("launchctl", "bootout", self._target)
        try:
            told = ask(*command, limit_s=_BOOTOUT_S)
        except SupervisorSilent:
            return
        if told.code not in {0, _NO_SUCH_PROCESS, _NOT_FOUND, *_IN_PROGRESS}:
            failed = refused(told, *command)
            if self._domain == "system":
                raise SupervisorFailed(f"{failed}; run: sudo {' '.join(command)}")
            raise failed

    def root_commands(self, staged: Path) -> list[str]:
        source, target = shlex.quote(str(staged)), shlex.quote(str(self._places[0]))
        return [
            f"sudo install -m 644 -o root -g wheel {source} {target}",
            f"sudo launchctl bootstrap system {target}",
        ]

    def root_removal(self) -> list[str]:
        return [
            f"sudo launchctl bootout {self._target}",
            f"sudo rm {shlex.quote(str(self._places[0]))}",
        ]

    def advice(self, user: str) -> str | None:
        return None if self._domain == "system" else "mlx-serve service install --daemon"

    def _place(self) -> Path:
        """Where the definition lies, or a new one is to."""
        return next((place for place in self._places if place.exists()), self._places[-1])

    def _try_start(self, *, can_wait: bool) -> bool:
        is_loaded = ask("launchctl", "print", self._target).code == 0
        # A service that runs is left as it is.
        start, load = ("kickstart", self._target), ("bootstrap", self._domain, str(self._place()))
        order = start if is_loaded else load
        told = ask("launchctl", *order)
        if told.code == 0 or told.code in _IN_PROGRESS:
            return True
        if told.code == _INPUT_OUTPUT and can_wait:
            return False
        if told.code == _NO_SUCH_DOMAIN:
            raise SupervisorFailed(_NOBODY)
        raise refused(told, "launchctl", *order)


def _seen(told: Told) -> tuple[Activity, int | None, str | None]:
    if told.code != 0:
        return "stopped", None, None
    if running := _PID.search(told.out):
        return "running", int(running[1]), None
    if killed := _SIGNAL.search(told.out):
        return "failed", None, f"ended by {killed[1]}"
    code = _LAST_EXIT.search(told.out)
    if code is None:
        return "starting", None, None
    return ("stopped", None, None) if code[1] == "0" else ("failed", None, f"exit code {code[1]}")

"""Who may be running the server as a service: what launchd and systemd have in common.

Invariants: asking for what is so already is a success that changes nothing.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from mlx_serve_gateway.supervision.launchd import Launchd
from mlx_serve_gateway.supervision.service import Service
from mlx_serve_gateway.supervision.state import State
from mlx_serve_gateway.supervision.systemd import Systemd
from mlx_serve_gateway.supervision.tool import SupervisorFailed


class Supervisor(Protocol):
    """One service of one supervisor; every method may raise SupervisorFailed."""

    file_name: str
    """Of the definition."""
    log_command: str
    """It shows what the service said."""

    def rendered(self, service: Service) -> bytes:
        """The definition that such a service needs."""

    def installed(self) -> bytes | None:
        """The definition that is there."""

    def install(self, content: bytes) -> Path:
        """Write the definition and have it read; its place."""

    def uninstall(self) -> None:
        """Forget a service that does not run any more."""

    def set_enabled(self, enabled: bool) -> None:
        """Whether it starts by itself."""

    def state(self) -> State: ...

    def start(self, limit_s: float) -> None: ...

    def request_stop(self) -> None:
        """Have it stopped, and not started again for having stopped; does not wait for the end."""

    def root_commands(self, staged: Path) -> list[str]:
        """What root has to run to install a service of the machine and to start it."""

    def root_removal(self) -> list[str]: ...

    def advice(self, user: str) -> str | None:
        """What a person has to do to have it run without being logged in."""


def supervisor(home: Path, *, machine: bool = False) -> Supervisor:
    """This system's: for the user's own service, or for one of the whole machine."""
    if sys.platform == "darwin":
        return Launchd.machine(home) if machine else Launchd.agent(home)
    return Systemd.machine() if machine else Systemd.user()


def owner(home: Path, pid: int) -> Supervisor | None:
    """Whoever runs this process as a service of ours."""
    for each in _candidates(home):
        try:
            if each.installed() is not None and each.state().pid == pid:
                return each
        except SupervisorFailed:
            # It cannot be asked. A server that is simply told to stop exits with 0, and that is
            # no failure after which it would be started again.
            continue
    return None


def _candidates(home: Path) -> Iterator[Supervisor]:
    yield supervisor(home)
    if sys.platform == "darwin":
        yield Launchd.homebrew(home)
    yield supervisor(home, machine=True)

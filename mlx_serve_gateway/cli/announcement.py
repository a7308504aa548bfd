"""What a starting server tells whoever started it: a terminal, or the process that waits for it.

Invariants: at most one announcement is final; after it the pipe is closed, and a waiting process
that has left changes nothing.
"""

import os
from collections.abc import Callable, Iterator
from select import select
from time import monotonic
from typing import Literal

import msgspec

from mlx_serve_gateway.cli.exit_codes import CommandFailed, ExitCode
from mlx_serve_gateway.cli.output import announce, json_text, note


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["note", "logging", "ready", "already_running", "failed"]
    message: str = ""
    pid: int | None = None
    url: str | None = None
    log: str | None = None
    code: int = ExitCode.OK

    @property
    def is_final(self) -> bool:
        return self.kind not in ("note", "logging")


Tell = Callable[[Announcement], None]


def tell_terminal(said: Announcement) -> None:
    match said.kind:
        case "note":
            note(said.message)
        case "logging":
            pass
        case "ready":
            announce(f"mlx-serve is running (pid {said.pid}) at {said.url}")
            if said.log is not None:
                announce(f"log: {said.log}")
        case "already_running":
            announce(f"already running (pid {said.pid}) at {said.url}")
        case "failed":
            raise CommandFailed(said.message, ExitCode(said.code))


def tell_json(said: Announcement) -> None:
    """As the terminal is told, but what the server became is JSON."""
    if said.kind in ("ready", "already_running"):
        announce(json_text({"state": said.kind, "pid": said.pid, "url": said.url, "log": said.log}))
    else:
        tell_terminal(said)


class Pipe:
    """The writing end, in the process that becomes the server."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._descriptor: int | None = descriptor

    def tell(self, said: Announcement) -> None:
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, msgspec.json.encode(said) + b"\n")
        except OSError:
            self.close()
        if said.is_final:
            self.close()

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def heard(descriptor: int, timeout_s: float) -> Iterator[Announcement]:
    """The announcements until the other end closes; TimeoutError when that takes too long."""
    deadline = monotonic() + timeout_s
    buffered = b""
    while True:
        if not select([descriptor], [], [], max(0.0, deadline - monotonic()))[0]:
            raise TimeoutError
        received = os.read(descriptor, 65536)
        if not received:
            return
        *lines, buffered = (buffered + received).split(b"\n")
        for line in lines:
            yield msgspec.json.decode(line, type=Announcement)

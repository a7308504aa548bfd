"""What may lie where a pid file should: leftovers, accidents, attempts to misuse the command."""

import os
import socket
from collections.abc import Callable
from pathlib import Path


def _make_directory(path: Path) -> None:
    path.mkdir()
    (path / "keep").touch()


def _make_socket(path: Path) -> None:
    # By a relative name: the path may be longer than a socket address.
    here = Path.cwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.name)
    os.chdir(here)


def _with_text(text: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(text)

    return make


def _with_pid(pid: int) -> Callable[[Path], None]:
    return _with_text(b'{"pid":%d,"port":8000}' % pid)


# Each makes something at the path, which is not a live server's pid file; links lead to "victim".
INTRUDERS: dict[str, Callable[[Path], None]] = {
    "empty": _with_text(b""),
    "garbage": _with_text(os.urandom(5000)),
    "deep": _with_text(b"[" * 100_000),
    "a number": _with_text(b"1\n"),
    "pid 0": _with_pid(0),
    "pid -1": _with_pid(-1),
    "pid 1": _with_pid(1),
    "a huge pid": _with_pid(10**12),
    "a link": lambda path: path.symlink_to(path.with_name("victim")),
    "a link to nothing": lambda path: path.symlink_to(path.with_name("nothing")),
    "a link to itself": lambda path: path.symlink_to(path),
    "a second name": lambda path: path.hardlink_to(path.with_name("victim")),
    "a directory": _make_directory,
    "a FIFO": os.mkfifo,
    "a socket": _make_socket,
}

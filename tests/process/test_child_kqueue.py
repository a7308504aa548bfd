"""How a child's end is seen on macOS: its code, run here over a stand-in for the system's queue."""

import asyncio
import errno
import importlib.util
import os
import select
import signal
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import psutil
import pytest

from mlx_serve_gateway import child

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="there the real queue is tested with it"),
]


class Queue:
    """Tells the end of a process, as kqueue does; its failures are set by the test."""

    is_refused = False
    made = 0
    closed = 0

    def __init__(self) -> None:
        if Queue.is_refused:
            raise OSError(errno.EMFILE, "Too many open files")
        Queue.made += 1

    def control(self, changes: list[int], most: int, timeout_s: None) -> list[int]:
        options = os.WEXITED | os.WNOWAIT
        os.waitid(os.P_PID, changes[0], options)  # type: ignore[attr-defined, unused-ignore]
        return changes

    def close(self) -> None:
        Queue.closed += 1


@pytest.fixture
def macos(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """``child`` as it is compiled there."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(select, "kqueue", Queue, raising=False)
    monkeypatch.setattr(select, "kevent", lambda pid, **_: pid, raising=False)
    for name in ("KQ_FILTER_PROC", "KQ_EV_ADD", "KQ_EV_ONESHOT", "KQ_NOTE_EXIT"):
        monkeypatch.setattr(select, name, 0, raising=False)
    monkeypatch.setattr(Queue, "is_refused", False)
    spec = importlib.util.spec_from_file_location("child_of_macos", str(child.__file__))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    assert Queue.made == Queue.closed


def started(macos: ModuleType, script: str) -> Any:
    with open(os.devnull, "wb") as nowhere:
        return macos.Child(["/bin/sh", "-c", script], {}, {1: nowhere.fileno()})


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -9 $$", -signal.SIGKILL)])
async def test_an_end_is_seen_and_reaped(macos: ModuleType, script: str, code: int) -> None:
    process = started(macos, script)
    async with asyncio.timeout(10):
        assert await process.exited == code
    assert not psutil.pid_exists(process.pid)


async def test_a_kill_is_seen(macos: ModuleType) -> None:
    process = started(macos, "sleep 60")
    process.kill()
    async with asyncio.timeout(10):
        assert await process.exited == -signal.SIGKILL


async def test_without_a_descriptor_to_watch_it_nothing_is_left(
    macos: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Queue, "is_refused", True)
    pids: list[int] = []
    spawn = os.posix_spawn

    def spawned(*some: Any, **more: Any) -> int:
        pids.append(spawn(*some, **more))
        return pids[-1]

    monkeypatch.setattr(os, "posix_spawn", spawned)
    with pytest.raises(OSError, match="Too many open files"):
        started(macos, "sleep 60")
    assert not psutil.pid_exists(pids[0])

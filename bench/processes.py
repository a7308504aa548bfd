"""Servers as processes: started, waited for, weighed, ended with all that they started."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import clock_gettime, perf_counter
from typing import Self

import psutil

from bench.http_client import Client, RequestFailed

_POLL_S = 0.005
_STOP_S = 15.0
MIB = 1024 * 1024


def end_when_told() -> None:
    """By a signal as well: no server is left behind."""
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Server:
    """One running server; ``path`` answers 200 as soon as it serves."""

    def __init__(
        self, command: Sequence[str], port: int, path: str, env: Mapping[str, str], log: Path
    ) -> None:
        self._path = path
        self._log = log
        self.client = Client(port)
        self._started = perf_counter()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    async def ready(self, limit_s: float) -> float:
        """The seconds from its start until it answers."""
        while True:
            with contextlib.suppress(OSError, RequestFailed, asyncio.IncompleteReadError):
                await self.client.get(self._path)
                return perf_counter() - self._started
            if self._process.poll() is not None or perf_counter() - self._started > limit_s:
                raise RuntimeError(f"it does not serve: {last_words(self._log)}")
            await asyncio.sleep(_POLL_S)

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        self.client.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Its own session: whatever it has started and left behind is in it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def cpu_seconds(self) -> float:
        """Of the process that answers HTTP, without those that it has started."""
        if sys.platform == "linux":
            # What clock_getcpuclockid(3) makes of a process: in nanoseconds, and with threads that
            # have ended. psutil reads hundredths of a second.
            return clock_gettime((~self.pid << 3) | 2)
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def memory_mib(self) -> float:
        """Of all its processes; what they share is counted once."""
        return sum(own_bytes(process) for process in self._processes()) / MIB

    def _processes(self) -> Iterator[psutil.Process]:
        top = psutil.Process(self._process.pid)
        yield top
        yield from top.children(recursive=True)


def last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.strip()), "its log is empty")


def own_bytes(process: psutil.Process) -> int:
    """With its share of what others have mapped too, where the system tells that (Linux)."""
    try:
        memory = process.memory_full_info()
    except psutil.Error:
        return 0
    return int(getattr(memory, "pss", memory.uss))

"""When the gateway dies without a word, nothing of it is left a second later."""

import asyncio
import fcntl
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

import psutil
import pytest

from mlx_serve_gateway.sentinel import Sentinel
from tests.process.gateways import GONE_S, SOURCE, Gateway, is_alive
from tests.store import ModelStore
from tests.waiting import async_until, until

pytestmark = pytest.mark.process

# Takes away what Linux does for us, so that the sentinel is alone as it is on other systems.
_NO_DEATH_SIGNAL = """
import ctypes
_CDLL = ctypes.CDLL

class _Nothing:
    def __getattr__(self, name):
        return lambda *arguments: 0

ctypes.CDLL = lambda name, *more, **named: _CDLL(name, *more, **named) if name else _Nothing()
"""


@pytest.fixture
def without_death_signal(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_NO_DEATH_SIGNAL)
    return {"PYTHONPATH": f"{folder}:{SOURCE}"}


@contextmanager
def busy_gateway(home: Path, store: ModelStore, env: dict[str, str]) -> Iterator[Gateway]:
    """One worker that holds the interpreter lock in C, one that is stopped, one that is idle."""
    for name in ("spinning", "stopped", "idle"):
        store.add(name)
    with Gateway(home, store, None, **env) as gateway:
        for name in ("spinning", "stopped", "idle"):
            gateway.assert_serves(name)
        psutil.Process(gateway.worker_pid("stopped")).suspend()
        request = threading.Thread(target=_ignore_failure, args=(gateway, "spinning"))
        request.start()
        spinning = psutil.Process(gateway.worker_pid("spinning"))
        until(lambda: spinning.cpu_times().user > 0.3, what="the spinning")
        yield gateway
        request.join()


def _ignore_failure(gateway: Gateway, model: str) -> None:
    with suppress(OSError):  # the gateway is killed under it
        gateway.embed(model, "__spin__")


def assert_killing_it_leaves_nothing(gateway: Gateway) -> None:
    processes = [*gateway.processes(), gateway.sentinel()]
    assert len(processes) >= 4
    gateway.signal(signal.SIGKILL)
    gateway.wait()
    killed_at = monotonic()
    until(lambda: not any(map(is_alive, processes)), GONE_S, "the end of every process")
    assert monotonic() - killed_at < GONE_S


def test_everything_dies_with_the_gateway(short_dir: Path, store: ModelStore) -> None:
    with busy_gateway(short_dir, store, {}) as gateway:
        assert_killing_it_leaves_nothing(gateway)


def test_the_sentinel_alone_is_enough(
    short_dir: Path, store: ModelStore, without_death_signal: dict[str, str]
) -> None:
    with busy_gateway(short_dir, store, without_death_signal) as gateway:
        assert_killing_it_leaves_nothing(gateway)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no such signal")
def test_the_kernel_alone_is_enough(short_dir: Path, store: ModelStore) -> None:
    with busy_gateway(short_dir, store, {}) as gateway:
        workers = gateway.processes()
        # One that is killed is replaced, and one that is stopped goes on when its parent has died.
        gateway.signal(signal.SIGSTOP)
        gateway.sentinel().kill()
        gateway.signal(signal.SIGKILL)
        gateway.wait()
        until(lambda: not any(map(is_alive, workers)), GONE_S, "the end of every worker")


def test_a_sentinel_that_was_killed_is_replaced(
    short_dir: Path, store: ModelStore, without_death_signal: dict[str, str]
) -> None:
    with busy_gateway(short_dir, store, without_death_signal) as gateway:
        first = gateway.sentinel()
        first.kill()
        until(lambda: _sentinel_pid(gateway) not in (None, first.pid), what="another sentinel")
        # The list of processes reaches it in its first moments.
        gateway.assert_serves("idle")
        assert_killing_it_leaves_nothing(gateway)


def _sentinel_pid(gateway: Gateway) -> int | None:
    try:
        return gateway.sentinel().pid
    except ValueError:
        return None


def test_a_new_gateway_starts_over_what_a_killed_one_left(
    short_dir: Path, store: ModelStore
) -> None:
    store.add("m")
    with Gateway(short_dir, store) as gateway:
        gateway.assert_serves("m")
        gateway.signal(signal.SIGKILL)
        gateway.wait()
    (left,) = gateway.sockets()

    with Gateway(short_dir, store) as successor:
        assert not left.exists()
        successor.assert_serves("m")


def test_sweeping_spares_the_sockets_of_another_gateway(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    with Gateway(short_dir, store) as first:
        first.assert_serves("m")
        with Gateway(short_dir, store) as second:
            second.assert_serves("m")
            assert len(first.sockets()) == 2
            first.assert_serves("m")
        first.assert_serves("m")
        first.signal(signal.SIGTERM)
        assert first.wait() == 0


def _sleeper() -> "subprocess.Popen[bytes]":
    """Leads a group, as our children do."""
    return subprocess.Popen(["sleep", "60"], process_group=0)


async def test_the_sentinel_kills_who_is_on_its_list_and_nobody_else() -> None:
    sentinel = Sentinel()
    sentinel.start()
    processes = [_sleeper() for _ in range(5)]
    for process in processes:
        sentinel.watch(process.pid)
    for process in processes[::2]:
        sentinel.forget(process.pid)
    # As when this process ended: no word, only the end of the pipe.
    sentinel._close_pipe()
    listed, forgotten = processes[1::2], processes[::2]
    await async_until(lambda: all(process.poll() is not None for process in listed), GONE_S)

    assert [process.poll() for process in forgotten] == [None] * 3
    for process in forgotten:
        process.kill()
        process.wait()
    await sentinel.stop()


def _unread(sentinel: Sentinel) -> int:
    assert sentinel._pipe is not None
    answer = fcntl.ioctl(sentinel._pipe, termios.FIONREAD, b"\0\0\0\0")
    return int.from_bytes(answer, sys.byteorder)


async def test_a_sentinel_is_not_ended_by_signals_to_the_group() -> None:
    sentinel = Sentinel()
    sentinel.start()
    assert sentinel._child is not None
    process = psutil.Process(sentinel._child.pid)
    bystander = _sleeper()
    sentinel.watch(bystander.pid)
    until(lambda: _unread(sentinel) == 0, what="the sentinel's reading, which follows its traps")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        process.send_signal(number)
    await asyncio.sleep(0.05)

    assert process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
    await sentinel.stop()

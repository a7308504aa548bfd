"""What systemd hears of a gateway: this test plays systemd's end of the socket."""

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import psutil
import pytest

from tests.process.gateways import Gateway
from tests.store import ModelStore

if sys.platform != "linux":
    pytest.skip("systemd is Linux's alone", allow_module_level=True)

pytestmark = pytest.mark.process

WATCHDOG_S = 0.6
VARIABLES = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}


class Manager:
    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.bind(address.replace("@", "\0", 1))

    def hears(self, within_s: float = 10.0) -> dict[str, str] | None:
        self._channel.settimeout(within_s)
        try:
            message = self._channel.recv(4096).decode()
        except TimeoutError:
            return None
        return dict(line.split("=", 1) for line in message.split("\n"))

    def close(self) -> None:
        self._channel.close()


@contextmanager
def manager(address: str) -> Iterator[Manager]:
    played = Manager(address)
    try:
        yield played
    finally:
        played.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, short_dir: Path) -> Iterator[Manager]:
    path = short_dir / "notify"
    with manager(str(path) if request.param == "path" else f"@{path}") as played:
        yield played


def test_from_start_to_stop(short_dir: Path, store: ModelStore, systemd: Manager) -> None:
    store.add("m")
    microseconds = str(int(WATCHDOG_S * 1e6))
    with Gateway(
        short_dir, store, NOTIFY_SOCKET=systemd.address, WATCHDOG_USEC=microseconds
    ) as gateway:
        # The first sign of life may come before: the port is open by then.
        heard = [systemd.hears(), systemd.hears()]
        assert {"READY": "1", "STATUS": "serving"} in heard
        gateway.assert_serves("m")
        began = monotonic()
        for _ in range(4):
            assert systemd.hears() == {"WATCHDOG": "1"}
        assert monotonic() - began < 4 * WATCHDOG_S

        gateway.signal(signal.SIGTERM)
        while (told := systemd.hears()) == {"WATCHDOG": "1"}:
            pass
        assert told == {"STOPPING": "1", "STATUS": "finishing 0 requests"}
        assert gateway.wait(5) == 0
        assert systemd.hears(within_s=0.01) is None


def test_a_server_that_cannot_take_connections_gives_no_sign_of_life(
    short_dir: Path, store: ModelStore
) -> None:
    """The event loop turns, and still nobody is served: only a new start helps."""
    with (
        manager(str(short_dir / "notify")) as systemd,
        Gateway(short_dir, store, NOTIFY_SOCKET=systemd.address, WATCHDOG_USEC="400000") as gateway,
    ):
        process = psutil.Process(gateway.pid)
        while systemd.hears() != {"WATCHDOG": "1"}:
            pass
        before = process.rlimit(psutil.RLIMIT_NOFILE)
        process.rlimit(psutil.RLIMIT_NOFILE, (3, before[1]))
        while systemd.hears(within_s=0.15) is not None:
            pass
        assert systemd.hears(within_s=1.0) is None
        assert "did not answer its own health request" in gateway.log()
        process.rlimit(psutil.RLIMIT_NOFILE, before)
        assert systemd.hears() == {"WATCHDOG": "1"}


def test_no_child_can_speak_for_the_service(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    with (
        manager(str(short_dir / "notify")) as systemd,
        Gateway(
            short_dir, store, NOTIFY_SOCKET=systemd.address, WATCHDOG_USEC="60000000"
        ) as gateway,
    ):
        gateway.assert_serves("m")
        children = psutil.Process(gateway.pid).children(recursive=True)
        assert len(children) >= 2
        for child in children:
            assert VARIABLES & child.environ().keys() == set()


@pytest.mark.parametrize("usec", ["", "0", "x"])
def test_without_a_watchdog_there_are_no_signs_of_life(
    short_dir: Path, store: ModelStore, usec: str
) -> None:
    with (
        manager(str(short_dir / "notify")) as systemd,
        Gateway(short_dir, store, NOTIFY_SOCKET=systemd.address, WATCHDOG_USEC=usec) as gateway,
    ):
        assert systemd.hears() == {"READY": "1", "STATUS": "serving"}
        assert systemd.hears(within_s=0.2) is None
        gateway.signal(signal.SIGTERM)
        assert systemd.hears() == {"STOPPING": "1", "STATUS": "finishing 0 requests"}


def test_a_manager_that_is_gone_stops_nobody(short_dir: Path, store: ModelStore) -> None:
    store.add("m")
    with Gateway(
        short_dir, store, NOTIFY_SOCKET=str(short_dir / "gone"), WATCHDOG_USEC="100000"
    ) as gateway:
        gateway.assert_serves("m")
        assert "systemd could not be told" in gateway.log()

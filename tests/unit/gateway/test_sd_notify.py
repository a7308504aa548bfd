"""What the gateway takes from systemd's variables, and that nobody after it can."""

import os
import socket
from pathlib import Path

import pytest

from mlx_serve_gateway.sd_notify import Notifier


@pytest.mark.parametrize(
    ("pid", "watchdog_s"),
    [("", 2.5), (str(os.getpid()), 2.5), ("1", None)],
    ids=["nobody", "us", "another"],
)
async def test_the_variables_are_taken_away(
    monkeypatch: pytest.MonkeyPatch, pid: str, watchdog_s: float | None
) -> None:
    given = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "2500000", "WATCHDOG_PID": pid}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    notifier = Notifier.from_environment()
    assert given.keys() & os.environ.keys() == set()
    assert notifier._watchdog_s == watchdog_s


async def test_without_systemd_nothing_is_sent_and_no_timer_runs() -> None:
    notifier = Notifier.from_environment()
    notifier.tell("READY=1")
    # Would never return with a watchdog.
    await notifier.keep_alive(("127.0.0.1", 1))


def test_a_full_queue_of_systemds_holds_nobody_up(
    short_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(short_dir / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as never_read:
        never_read.bind(path)
        notifier = Notifier(path, None)
        for number in range(100_000):
            notifier.tell(f"STATUS={number:>4000}")
            if caplog.records:
                break
    assert "systemd could not be told STATUS=" in caplog.text

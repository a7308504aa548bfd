"""Signals reach the process that was meant, or nobody."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest

from mlx_serve_gateway.process_identity import (
    ProcessIdentity,
    boot_id,
    is_stopped,
    start_token,
    this_process,
)
from tests.waiting import until

pytestmark = pytest.mark.process


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_this_process_is_itself() -> None:
    assert this_process() == this_process()
    assert this_process().pid == os.getpid()
    assert this_process().is_current()


def test_who_is_stopped_is_told_from_who_waits(sleeper: subprocess.Popen[bytes]) -> None:
    assert not is_stopped(sleeper.pid)
    sleeper.send_signal(signal.SIGSTOP)
    until(lambda: is_stopped(sleeper.pid))
    sleeper.send_signal(signal.SIGCONT)
    until(lambda: not is_stopped(sleeper.pid))
    sleeper.kill()
    sleeper.wait()
    assert not is_stopped(sleeper.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is of Linux")
def test_a_name_with_blanks_and_brackets_does_not_shift_the_fields() -> None:
    script = (
        "import ctypes; ctypes.CDLL(None).prctl(15, b') R 1 2 3 ('); print(1, flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    assert process.stdout is not None
    before = start_token(process.pid)
    assert before is not None
    process.stdout.readline()
    assert start_token(process.pid) == before
    process.communicate(b"\n")


def test_a_signal_reaches_the_process_that_was_meant(sleeper: subprocess.Popen[bytes]) -> None:
    identity = identity_of(sleeper)
    assert identity.is_current()
    assert identity.send(signal.SIGTERM)
    assert sleeper.wait(5) == -signal.SIGTERM
    assert not identity.is_current()
    assert not identity.send(signal.SIGTERM)


@pytest.mark.parametrize("changes", [{"start_token": "1"}, {"boot_id": "before"}])
def test_a_reused_number_is_not_signalled(
    sleeper: subprocess.Popen[bytes], changes: dict[str, str]
) -> None:
    identity = msgspec.structs.replace(identity_of(sleeper), **changes)
    assert not identity.send(signal.SIGKILL)
    assert sleeper.poll() is None


def test_without_process_handles_the_rule_is_the_same(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_pid: int) -> int:
        raise OSError("not here")

    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    identity = identity_of(sleeper)
    assert not msgspec.structs.replace(identity, start_token="1").send(signal.SIGKILL)
    assert sleeper.poll() is None
    assert identity.send(signal.SIGKILL)
    assert sleeper.wait(5) == -signal.SIGKILL


def identity_of(process: subprocess.Popen[bytes]) -> ProcessIdentity:
    token = start_token(process.pid)
    assert token is not None
    return ProcessIdentity(pid=process.pid, start_token=token, boot_id=boot_id())

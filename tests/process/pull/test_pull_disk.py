"""A disk that is full, becomes full, or may not be written to."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.events import JobEvent
from tests.hub.repositories import HubRepository
from tests.process.pull.conftest import REPO, Home, checked

pytestmark = [pytest.mark.process, pytest.mark.engine]

BIG = "a.safetensors"
MEGABYTE = 10**6

_UNWEIGHED = """
from mlx_serve_worker import gathering, job
gathering.refuse_without_room = lambda *amounts: None
raise SystemExit(job.main())
"""

_FILLING = """
import errno, os
from mlx_serve_worker import download, job
append = download.Part.append
def filling(part, chunk):
    if part.size > 20_000:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/secret/path/part")
    append(part, chunk)
download.Part.append = filling
raise SystemExit(job.main())
"""


def run_script(script: str, home: Home) -> list[JobEvent]:
    command = home.command()
    command[1:4] = ["-c", script]
    done = subprocess.run(command, env=home.env, capture_output=True, timeout=50)
    return checked(done.stdout, done.returncode)


@pytest.fixture
def volume(home: Home, large_files: dict[str, bytes]) -> Iterator[Path]:
    """A models folder on a disk of 20 MB with a small model in it, and another of 40 to pull."""
    home.pull(name="neighbour")
    roomy = home.models.rename(home.models.with_name("roomy"))
    home.hub.add(HubRepository(REPO, large_files))
    home.hub.bytes_sent.clear()
    home.models.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(home.models)]
    if sys.platform != "linux" or os.getuid() != 0 or subprocess.run(command).returncode != 0:
        pytest.skip("only root may mount a small disk")
    shutil.copytree(roomy / "neighbour", home.models / "neighbour")
    try:
        yield home.models
        assert home.installed() == ["neighbour"]
        home.assert_works("neighbour")
    finally:
        subprocess.run(["umount", str(home.models)], check=True)


def test_too_small_a_disk_is_seen_before(volume: Path, home: Home) -> None:
    refused = home.refusal()
    assert refused.code is ErrorCode.INSUFFICIENT_STORAGE
    assert "40 MB" in refused.message
    assert home.hub.file_bytes() == 0
    home.assert_nothing_left()


def test_disk_that_fills_up(volume: Path, home: Home) -> None:
    last = run_script(_UNWEIGHED, home)[-1]
    assert (last.code, last.error) == (ErrorCode.INSUFFICIENT_STORAGE, "the disk is full")
    assert home.hub.bytes_sent[BIG] > MEGABYTE
    home.assert_nothing_left()
    assert shutil.disk_usage(volume).free > 19 * MEGABYTE


def test_disk_that_is_said_to_be_full(home: Home) -> None:
    last = run_script(_FILLING, home)[-1]
    assert last.code is ErrorCode.INSUFFICIENT_STORAGE
    assert "secret" not in (last.error or "")
    home.assert_nothing_left()
    home.run()


def test_what_is_here_already_needs_no_room(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.hub.faults import Fault
    from tests.process.pull.conftest import WEIGHTS

    size = sum(map(len, home.hub.repositories[REPO].content().values()))
    spare = 64 * 1024**2
    home.hub.faults[WEIGHTS] = Fault(drop_after=0)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=spare + size))
    home.refusal()
    home.hub.faults.clear()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=spare + size - 1))
    home.pull()  # a few small files are here by now


def test_models_folder_that_cannot_be_written(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    script = _FILLING.replace("errno.ENOSPC", "errno.EROFS")
    last = run_script(script, home)[-1]
    assert last.code is ErrorCode.ACCESS_DENIED
    home.run()

"""Pulls that end early, and what the next one has to fetch again."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.events import decode_event
from mlx_serve_worker.downloads import KEPT_S
from tests.hub.faults import Fault
from tests.hub.repositories import HubRepository
from tests.process.pull.conftest import IMPATIENT, REPO, WEIGHTS, Home, checked
from tests.waiting import until

pytestmark = [pytest.mark.process, pytest.mark.engine]

BIG = "a.safetensors"
SLACK = 0.02
ONCE = msgspec.structs.replace(IMPATIENT, delays_s=())


@pytest.fixture
def size(home: Home, large_files: dict[str, bytes]) -> int:
    home.hub.add(HubRepository(REPO, large_files))
    return len(large_files[BIG])


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_dropped_connections_cost_nothing_twice(share: float, home: Home, size: int) -> None:
    home.hub.faults[BIG] = Fault(times=3, drop_after=int(size * share / 3))
    home.pull()
    assert home.hub.bytes_sent[BIG] <= size * (1 + SLACK)
    ranges = [each.range for each in home.hub.asked("cdn") if "a.safetensors" in each.query]
    assert ranges[0] is None
    assert len(ranges) == 4
    assert None not in ranges[1:]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_killed_process_leaves_what_the_next_continues(share: float, home: Home, size: int) -> None:
    begun = int(size * share)
    home.hub.faults[BIG] = Fault(times=1, stall_after=begun)
    with home.start() as job:
        until(lambda: home.kept_bytes() >= begun, 30, "the beginning")
        job.kill()
    home.hub.bytes_sent.clear()
    events = home.run()
    assert events[-1].model == "tiny"
    assert home.hub.bytes_sent[BIG] <= size * (1 - share + SLACK)
    home.assert_works()
    home.assert_nothing_left()


def test_killed_in_full_flow(home: Home, size: int) -> None:
    home.hub.faults[BIG] = Fault(bytes_per_s=60e6)
    with home.start() as job:
        until(lambda: home.kept_bytes() >= size / 2, 30, "half of it")
        job.kill()
    home.hub.faults.clear()
    home.hub.bytes_sent.clear()
    home.run()
    assert home.hub.bytes_sent[BIG] <= size * 0.55


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_job_says_what_it_keeps(signum: signal.Signals, home: Home, size: int) -> None:
    home.hub.faults[BIG] = Fault(times=1, stall_after=size // 2)
    with home.start() as job:
        until(lambda: home.kept_bytes() >= size // 2, 30, "half of it")
        job.send_signal(signum)
        output, _ = job.communicate()
    last = checked(output, job.returncode)[-1]
    assert last.code is ErrorCode.CANCELLED
    assert "is kept" in (last.error or "")
    assert home.staged() == []
    home.hub.bytes_sent.clear()
    home.run()
    assert home.hub.bytes_sent[BIG] <= size * 0.55
    home.assert_nothing_left()


def test_interrupted_while_importing(home: Home) -> None:
    """The process that tries the model ends as well; what was downloaded stays."""
    with home.start() as job:
        assert job.stdout is not None
        for line in job.stdout:
            if decode_event(line).status == "verifying":
                break
        job.terminate()
        last = decode_event([line, *job.stdout][-1])
    if last.error is None:  # it was through already
        return
    assert last.code is ErrorCode.CANCELLED
    assert home.staged() == []
    sent = home.hub.file_bytes()
    home.run()
    assert home.hub.file_bytes() == sent


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x" * 10**6)


def become_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize("damage", [flip_a_byte, grow])
def test_damaged_part_is_fetched_anew(damage: Callable[[Path], None], home: Home) -> None:
    home.hub.faults[WEIGHTS] = Fault(drop_after=50_000)
    home.refusal(patience=ONCE)
    (part,) = (path for path in home.kept() if path.suffix == ".part")
    damage(part)
    home.hub.faults.clear()
    home.pull()
    home.assert_works()
    home.assert_nothing_left()


@pytest.mark.parametrize("damage", [flip_a_byte, grow, become_a_link])
def test_damaged_file_is_fetched_anew(damage: Callable[[Path], None], home: Home) -> None:
    home.hub.faults[WEIGHTS] = Fault(drop_after=50_000)
    home.refusal(patience=ONCE)
    (whole,) = (path for path in home.kept() if path.name == "tokenizer.json")
    damage(whole)
    home.hub.faults.clear()
    home.pull()
    home.assert_works()
    assert Path("/etc/passwd").read_bytes()[:4] == b"root"


def test_hub_that_cannot_continue(home: Home, size: int) -> None:
    home.hub.faults[BIG] = Fault(times=1, drop_after=size // 2)
    home.refusal(patience=ONCE)
    home.hub.faults[BIG] = Fault(times=1, ignores_range=True)
    home.pull()
    assert home.hub.bytes_sent[BIG] == size // 2 + size
    home.assert_works()


def test_parts_that_nobody_came_back_for_are_swept(home: Home) -> None:
    home.hub.faults[WEIGHTS] = Fault(drop_after=50_000)
    home.refusal(patience=ONCE)
    (old,) = (home.models / ".downloads").iterdir()
    for path in (old, *old.rglob("*")):
        age(path, KEPT_S - 60)
    other = home.hub.add(HubRepository("org/other", home.hub.repositories[REPO].content()))
    home.refusal(other.repo, ONCE, name="o")
    assert old.exists()
    for path in (old, *old.rglob("*")):
        age(path, KEPT_S + 60)
    home.refusal(other.repo, ONCE, name="o")
    assert not old.exists()
    assert len(list((home.models / ".downloads").iterdir())) == 1


def test_parts_in_use_are_not_swept(home: Home) -> None:
    other = home.hub.add(HubRepository("org/other", home.hub.repositories[REPO].content()))
    home.hub.faults[WEIGHTS] = Fault(times=1, stall_after=50_000)
    with home.start() as job:
        until(lambda: home.kept_bytes() >= 50_000, 30, "the beginning")
        (live,) = (home.models / ".downloads").iterdir()
        for path in (live, *live.rglob("*")):
            age(path, 2 * KEPT_S)
        home.pull(other.repo)
        assert live.exists()
        job.kill()


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))

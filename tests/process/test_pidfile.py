"""Pid files between real processes: one holder, nothing followed, nobody taken for another."""

import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from mlx_serve_common.paths import pid_file
from mlx_serve_gateway import pidfile
from mlx_serve_gateway.pidfile import PidFile, PidFileHeld, PidRecord, look, ports, watch
from mlx_serve_gateway.process_identity import this_process
from tests.process.intruders import INTRUDERS

pytestmark = pytest.mark.process

PORT = 8000
# Takes the pid file (and, told to, publishes), says so, removes it when told on its stdin, and ends
# when that does.
HOLDER = """
import sys
from pathlib import Path
import msgspec
from mlx_serve_gateway import pidfile
from mlx_serve_gateway.pidfile import PidFile, PidFileHeld, PidRecord
from mlx_serve_gateway.process_identity import this_process
from tests.process.intruders import INTRUDERS

home, port, deed = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
try:
    held = PidFile.acquire(home, port)
except PidFileHeld:
    print("held", flush=True)
    sys.exit()
if deed != "lock":
    identity = msgspec.structs.asdict(this_process())
    held.publish(PidRecord(**identity, port=port, host="127.0.0.1", instance="i"))
print("mine", flush=True)
for _ in sys.stdin:
    held.remove()
    print("removed", flush=True)
"""

Holder = subprocess.Popen[str]


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[[str], Holder]]:
    """Starts a process that takes the pid file; it ends with the test at the latest."""
    started: list[Holder] = []

    def start(deed: str = "publish") -> Holder:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path), str(PORT), deed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(holder)
        return holder

    yield start
    for holder in started:
        holder.kill()
        holder.communicate()


def word_of(holder: Holder) -> str:
    assert holder.stdout is not None
    return holder.stdout.readline().strip()


def a_record(**changes: object) -> PidRecord:
    identity = msgspec.structs.asdict(this_process())
    record = PidRecord(**identity, port=PORT, host="127.0.0.1", instance="i")
    return msgspec.structs.replace(record, **changes)


def test_a_holder_is_seen_and_keeps_others_out(
    tmp_path: Path, hold: Callable[[str], Holder]
) -> None:
    holder = hold("publish")
    assert word_of(holder) == "mine"

    seen = look(tmp_path, PORT)
    assert seen.held
    assert seen.record is not None
    assert (seen.record.pid, seen.record.instance) == (holder.pid, "i")
    with pytest.raises(PidFileHeld):
        PidFile.acquire(tmp_path, PORT)
    assert stat.S_IMODE(pid_file(tmp_path, PORT).stat().st_mode) == 0o600
    assert ports(tmp_path) == [PORT]


def test_looking_keeps_nobody_out(tmp_path: Path) -> None:
    pid_file(tmp_path, PORT).touch()
    with watch(tmp_path, PORT) as seen:
        assert seen is not None
        assert not seen.is_held()
        PidFile.acquire(tmp_path, PORT)
        assert seen.is_held()


def test_a_killed_holder_leaves_a_file_that_counts_for_nothing(
    tmp_path: Path, hold: Callable[[str], Holder]
) -> None:
    holder = hold("publish")
    word_of(holder)
    with watch(tmp_path, PORT) as seen:
        assert seen is not None
        holder.kill()
        holder.wait()
        assert not seen.is_held()
        assert seen.record() is None
    assert not look(tmp_path, PORT).held

    successor = hold("publish")
    assert word_of(successor) == "mine"
    record = look(tmp_path, PORT).record
    assert record is not None
    assert record.pid == successor.pid


def test_a_holder_that_removed_its_file_is_watched_to_its_end(
    tmp_path: Path, hold: Callable[[str], Holder]
) -> None:
    holder = hold("publish")
    assert word_of(holder) == "mine"
    with watch(tmp_path, PORT) as seen:
        assert seen is not None
        assert holder.stdin is not None
        holder.stdin.write("remove\n")
        holder.stdin.flush()
        assert word_of(holder) == "removed"
        assert not look(tmp_path, PORT).held
        assert seen.is_held()
        holder.communicate()
        assert not seen.is_held()


def test_an_exiting_server_leaves_its_successors_file(
    tmp_path: Path, hold: Callable[[str], Holder]
) -> None:
    leaving = PidFile.acquire(tmp_path, PORT)
    pid_file(tmp_path, PORT).unlink()
    successor = hold("publish")
    word_of(successor)
    leaving.remove()
    record = look(tmp_path, PORT).record
    assert record is not None
    assert record.pid == successor.pid


def test_a_record_is_believed_only_about_a_live_process(
    tmp_path: Path, hold: Callable[[str], Holder]
) -> None:
    holder = hold("lock")
    word_of(holder)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for text in (
        b"",
        b"\xff\xfe",
        b"[" * 5000,
        b"1",
        msgspec.json.encode(a_record(pid=ended.pid)),
        msgspec.json.encode(a_record(start_token="1")),
        msgspec.json.encode(a_record(boot_id="another boot")),
        msgspec.json.encode(a_record(port=PORT + 1)),
        msgspec.json.encode(a_record(pid=0)),
    ):
        pid_file(tmp_path, PORT).write_bytes(text)
        seen = look(tmp_path, PORT)
        assert seen.held
        assert seen.record is None, text


@pytest.mark.parametrize("make", INTRUDERS.values(), ids=INTRUDERS)
def test_what_lies_in_the_way_is_neither_believed_nor_harmed(
    tmp_path: Path, make: Callable[[Path], None], hold: Callable[[str], Holder]
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = pid_file(tmp_path, PORT)
    make(path)
    was_file = path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1

    assert not look(tmp_path, PORT).held
    holder = hold("publish")
    assert word_of(holder) == "mine"

    record = look(tmp_path, PORT).record
    assert record is not None
    assert record.pid == holder.pid
    assert victim.read_text() == "precious"
    assert not (tmp_path / "nothing").exists()
    assert len(list(tmp_path.glob("*.aside"))) == (0 if was_file else 1)
    assert ports(tmp_path) == [PORT]


@pytest.mark.parametrize("kind", ["absent", "a FIFO", "a second name"])
def test_of_many_starts_one_holds_the_file(
    tmp_path: Path, kind: str, hold: Callable[[str], Holder]
) -> None:
    (tmp_path / "victim").touch()
    if kind != "absent":
        INTRUDERS[kind](pid_file(tmp_path, PORT))
    holders = [hold("publish") for _ in range(8)]
    with ThreadPoolExecutor(len(holders)) as threads:
        words = list(threads.map(word_of, holders))
    assert sorted(words) == ["held"] * 7 + ["mine"]
    record = look(tmp_path, PORT).record
    assert record is not None
    assert record.pid == holders[words.index("mine")].pid


def test_a_file_removed_while_it_was_being_taken_is_not_the_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_or_create = pidfile._open_or_create

    def removed_once(path: Path) -> int:
        descriptor = open_or_create(path)
        monkeypatch.setattr(pidfile, "_open_or_create", open_or_create)
        path.unlink()
        return descriptor

    monkeypatch.setattr(pidfile, "_open_or_create", removed_once)
    PidFile.acquire(tmp_path, PORT)
    assert look(tmp_path, PORT).held


def test_the_file_of_a_faster_start_is_not_moved_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pid_file(tmp_path, PORT)
    path.mkdir()
    move_aside = pidfile._move_aside
    faster: list[PidFile] = []

    def too_late(path: Path) -> None:
        monkeypatch.setattr(pidfile, "_move_aside", move_aside)
        faster.append(PidFile.acquire(tmp_path, PORT))
        move_aside(path)

    monkeypatch.setattr(pidfile, "_move_aside", too_late)
    with pytest.raises(PidFileHeld):
        PidFile.acquire(tmp_path, PORT)
    assert look(tmp_path, PORT).held


def test_only_names_of_ports_are_ports(tmp_path: Path) -> None:
    for name in ("1", "65535", "65536", "0", "08", "8000.x", "-1", "٣"):
        (tmp_path / f"mlx-serve-{name}.pid").touch()
    (tmp_path / "mlx-serve-9.pid.aside").touch()
    assert ports(tmp_path) == [1, 65535]
    assert ports(tmp_path / "absent") == []

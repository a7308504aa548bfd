"""Frames that are no messages, messages that are not the worker's, and a flood of output."""

import logging
from pathlib import Path

import pytest
import zmq

from mlx_serve_gateway.output import LINES_PER_SECOND
from mlx_serve_gateway.worker import ExitReport, Failure, StopReason
from tests.process.odd_worker import odd_worker
from tests.process.workers import WorkerRig
from tests.store import ModelStore
from tests.waiting import async_until

pytestmark = pytest.mark.process

GARBAGE = ["b''", "b'\\xc1'", "b'\\x93' * 200_000", "b'{}'", "encode(Drain())", "os.urandom(999)"]


@pytest.mark.parametrize("frame", GARBAGE)
async def test_a_worker_that_sends_garbage_is_ended(
    rig: WorkerRig, store: ModelStore, tmp_path: Path, frame: str
) -> None:
    program = f"ready()\nhear()\nsend(token, {frame})\nwait_for_the_end()"
    worker = rig.start(store.add("m"), source=odd_worker(tmp_path / "odd", program))
    await worker.ready()
    worker.submit("a")

    assert await worker.ended(5) == ExitReport(Failure.BROKE_PROTOCOL)
    assert worker.seen.results == []


async def test_a_backend_that_gives_nonsense_is_ended(rig: WorkerRig, store: ModelStore) -> None:
    worker = rig.start(store.add("m", garbage=True))
    await worker.ready()
    worker.submit("a")

    assert await worker.ended(5) == ExitReport(Failure.BROKE_PROTOCOL)
    assert worker.seen.results == []


@pytest.mark.parametrize(
    "parts",
    [
        ["embedded", [1, 2], [b"[1]"], [3, 3], [], 0.1],
        ["embedded", [1, 2], [b"[1]", b"[2]"], [3], [], 0.1],
        ["scored", [1, 2], [], [], [], [], 0.1],
        ["tokenized", [1, 2], [[1]], [[]]],
        ["detokenized", [1, 2], []],
    ],
)
async def test_a_result_whose_parts_do_not_match_is_no_message(
    rig: WorkerRig, store: ModelStore, tmp_path: Path, parts: list[object]
) -> None:
    program = f"""
ready()
hear()
send(token, msgspec.msgpack.encode({parts}))
wait_for_the_end()
"""
    worker = rig.start(store.add("m"), source=odd_worker(tmp_path / "odd", program))
    await worker.ready()
    worker.submit("a", "b")

    assert await worker.ended(5) == ExitReport(Failure.BROKE_PROTOCOL)
    assert worker.seen.results == []


async def test_frames_without_the_secret_are_dropped(
    rig: WorkerRig, store: ModelStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = """
wrong = bytes(TOKEN_BYTES)
message = encode(Ready(PROTOCOL, 1, "intruder", 0.0, 0))
for frames in [(message,), (wrong, message), (token,), (token, message, b""), (b"", message),
               (token[:-1], message), (token + b"x", message)]:
    send(*frames)
ready()
wait_for_the_end()
"""
    worker = rig.start(store.add("m"), source=odd_worker(tmp_path / "odd", program))
    await worker.ready()

    assert [ready.device for ready in worker.seen.ready] == ["odd"]
    assert caplog.text.count("without the worker's secret") == 7
    await worker.abort()


async def test_a_stranger_on_the_socket_is_not_listened_to(
    rig: WorkerRig, store: ModelStore, caplog: pytest.LogCaptureFixture
) -> None:
    worker = rig.start(store.add("m"))
    await worker.ready()
    (path,) = rig.sockets()
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.connect(f"ipc://{path}")
        stranger.send_multipart([b"guess" * 4, b"garbage"])
        stranger.send(b"\x80" * 1000)
        await async_until(lambda: caplog.text.count("without the worker's secret") == 2)
    await worker.compute("still mine")

    worker.handle.request_stop(StopReason.EVICTED)
    assert (await worker.ended()).exit_code == 0


async def test_a_second_announcement_changes_nothing(
    rig: WorkerRig, store: ModelStore, tmp_path: Path
) -> None:
    program = "ready()\nready()\nhear()\nsay(Rejected([1], ErrorCode.INTERNAL_ERROR, 'x'))\nhear()"
    worker = rig.start(store.add("m"), source=odd_worker(tmp_path / "odd", program))
    await worker.ready()
    await worker.answers(worker.submit("a"))
    worker.handle.request_stop(StopReason.EVICTED)

    assert (await worker.ended()).exit_code == 0
    assert len(worker.seen.ready) == 1


async def test_every_incarnation_has_a_socket_of_its_own(rig: WorkerRig, store: ModelStore) -> None:
    model = store.add("m")
    seen = set()
    for _ in range(2):
        worker = rig.start(model)
        await worker.ready()
        (path,) = rig.sockets()
        seen.add(path)
        worker.process.kill()
        await worker.ended()

    assert len(seen) == 2


async def test_a_flood_of_output_stalls_nobody(
    rig: WorkerRig, store: ModelStore, caplog: pytest.LogCaptureFixture
) -> None:
    worker = rig.start(store.add("m"))
    await worker.ready()
    with caplog.at_level(logging.INFO, logger="mlx_serve_gateway.output"):
        await worker.compute("__stderr:4096__")
        await worker.compute("still here")
        worker.handle.request_stop(StopReason.EVICTED)
        assert (await worker.ended()).exit_code == 0

    lines = [record for record in caplog.records if record.name.endswith(".output")]
    assert 1 <= len(lines) < 10 * LINES_PER_SECOND
    assert "lines of output left out" in caplog.text


async def test_the_last_words_of_a_crash_reach_the_log(
    rig: WorkerRig, store: ModelStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = """
sys.stderr.write("libc++abi: terminating due to uncaught exception")
sys.stderr.flush()
os.abort()
"""
    with caplog.at_level(logging.INFO):
        worker = rig.start(store.add("m"), source=odd_worker(tmp_path / "odd", program))
        await worker.ended()

    assert "libc++abi: terminating" in caplog.text

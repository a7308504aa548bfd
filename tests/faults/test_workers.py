"""Workers that die, hang, or lose what they need, under requests of every kind."""

import signal
from time import monotonic

import msgspec
import pytest

from mlx_serve_worker.backends.fake import vector
from tests.faults import canary
from tests.faults.rig import BATCH_TIMEOUT_S, CHAT, EMBEDDERS, Rig
from tests.process.gateways import GONE_S, is_alive
from tests.waiting import until

pytestmark = pytest.mark.process

RECOVERY_S = 5.0


def test_a_kill_in_full_flight_costs_nobody_an_answer(rig: Rig) -> None:
    rig.assert_serves("a")
    worker = rig.worker("a")
    worker.suspend()
    texts = [f"text {number}" for number in range(48)]
    with rig.in_flight("a", texts) as requests:
        killed_at = monotonic()
        worker.kill()
    assert [request.result().vectors() for request in requests] == [[vector(t)] for t in texts]
    assert monotonic() - killed_at < RECOVERY_S


def test_every_worker_dies_at_once(rig: Rig) -> None:
    for model in EMBEDDERS:
        rig.assert_serves(model)
    rig.rerank("q", ["d"])
    rig.chat("hello")
    workers = [rig.worker(model) for model in (*EMBEDDERS, "ranker", CHAT)]
    for worker in workers:
        worker.kill()
    for model in EMBEDDERS:
        rig.assert_serves(model)
    assert rig.rerank("q", ["d"]).status == 200
    assert rig.chat("hello").status == 200


@pytest.mark.parametrize("word", ["__spin__", "__sleep:60__"])
def test_a_hang_is_ended_in_time(rig: Rig, word: str) -> None:
    rig.assert_serves("b")
    hung = rig.worker("b")
    with rig.in_flight("b", [f"{word} b"]) as (request,):
        until(lambda: not is_alive(hung), BATCH_TIMEOUT_S + 2, "the end of a hung worker")
    assert request.result().code == "worker_crashed"
    rig.assert_serves("b")


def test_a_stopped_worker_does_not_hold_up_the_others(rig: Rig) -> None:
    rig.assert_serves("a")
    rig.assert_serves("b")
    rig.worker("a").send_signal(signal.SIGSTOP)
    with rig.in_flight("a", ["1", "2", "3"]) as requests:
        rig.assert_serves("b")
    assert [request.result().vectors() for request in requests] == [[vector(t)] for t in "123"]


def test_the_socket_of_a_running_worker_is_removed(rig: Rig) -> None:
    rig.assert_serves("a")
    for socket in rig.gateway.sockets():
        socket.unlink()
    rig.assert_serves("a")
    without_socket = [rig.worker(model) for model in ("a", canary.MODEL)]
    for model in ("a", canary.MODEL):
        rig.ask("/admin/unload", model=model)
    until(lambda: not any(map(is_alive, without_socket)), what="the end of both workers")
    rig.assert_serves("a")
    rig.assert_serves(canary.MODEL)


@pytest.mark.parametrize("word", ["__crash__", "__exit0__", "__raise_base__"])
def test_a_poison_costs_two_workers_however_often_it_is_asked(rig: Rig, word: str) -> None:
    rig.assert_serves("c")
    before = _restarts(rig, "c")
    codes = [rig.embed("c", f"{word} again").code for _ in range(5)]
    assert codes == ["worker_crashed"] + ["request_quarantined"] * 4
    assert _restarts(rig, "c") <= before + 2
    rig.assert_serves("c")


def test_poison_in_company(rig: Rig) -> None:
    rig.assert_serves("a")
    rig.worker("a").suspend()
    texts = ["1", "2", "__crash__ here", "__crash__ here", "3", "__nan__", "4"]
    with rig.in_flight("a", texts) as requests:
        rig.worker("a").resume()
    told = [r.result().code if r.result().status != 200 else "" for r in requests]
    assert [told[at] for at in (0, 1, 4, 6)] == [""] * 4
    assert set(told[2:4]) <= {"worker_crashed", "request_quarantined"}
    assert told[5] == "invalid_model_output"


def test_a_chat_worker_dies_while_it_speaks(rig: Rig) -> None:
    answer = rig.chat("__words:500__ __crash_after:3__", stream=True)
    assert answer.status == 200
    events = [line for line in answer.body.splitlines() if line.startswith(b"data: ")]
    error = msgspec.json.decode(events[-1].removeprefix(b"data: "))["error"]
    assert error["code"] == "model_unavailable"
    assert rig.chat("hello").status == 200


def test_what_a_worker_left_running_is_gone_with_it(rig: Rig) -> None:
    assert rig.embed("a", "__grandchild__").status == 200
    worker = rig.worker("a")
    until(lambda: [process.name() for process in worker.children()] == ["sleep"])
    left = worker.children()
    rig.let_go()
    until(lambda: not any(map(is_alive, left)), GONE_S, "its end")


def _restarts(rig: Rig, model: str) -> int:
    worker = rig.gateway.worker(model)
    assert worker is not None
    count: int = worker["restarts"]
    return count

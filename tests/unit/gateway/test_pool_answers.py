"""Answers that are generated, in the pool: what a worker's death and its silence mean for them."""

import asyncio
import signal
from collections.abc import Callable

import pytest

from mlx_serve_common.chat import Delta, Finish, Plain, Sampling
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.models import ModelKind
from mlx_serve_common.wire import Batch, Generate, Generated, Prefilled
from mlx_serve_gateway.generate_call import GenerateCall
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.worker import ExitReport, Failure
from tests.clock import FakeClock
from tests.unit.gateway.fake_workers import FakeWorker, FakeWorkers, settle
from tests.unit.gateway.pools import make_pool, model

CHAT = model("chat", ModelKind.CHAT)
FINISH = Finish("stop", None, 1, 0, 3, 0, 0.0, 0.0)


class ChatWorker(FakeWorker):
    """Takes prompts, and says what the test tells it."""

    def submit(self, batch: Batch) -> None:
        assert self.is_ready
        for part in batch.parts:
            assert isinstance(part, Generate)
            self.held |= dict.fromkeys(part.ids, "")

    def say(self, id: int, text: str, *, ends: bool = False) -> None:
        if ends:
            del self.held[id]
        delta = Delta(text, finish=FINISH if ends else None)
        self._observer.on_progress(Generated([id], [delta]))

    def read(self, id: int) -> None:
        self._observer.on_progress(Prefilled([id], [1], [2]))


@pytest.fixture
def workers() -> FakeWorkers:
    return FakeWorkers(ChatWorker)


class Asked:
    """A client that listens."""

    def __init__(self, pool: Pool, prompt: str = "hello") -> None:
        self.heard = ""
        self.call = GenerateCall(Plain(prompt), Sampling())
        self._pool = pool
        self.task = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        with self._pool.lease(CHAT, self.call) as lane, lane.asked(self.call):
            async for said in self.call.hear_all(60):
                self.heard += "".join(each.delta.text for each in said)


async def ready(workers: FakeWorkers) -> ChatWorker:
    worker = await workers.loaded(CHAT)
    assert isinstance(worker, ChatWorker)
    return worker


async def test_an_answer_is_heard_as_it_is_said(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        asked = Asked(pool)
        worker = await ready(workers)
        (id,) = worker.held
        worker.say(id, "a")
        await settle()
        assert asked.heard == "a"
        worker.say(id, "b", ends=True)
        await asked.task
        assert asked.heard == "ab"


async def test_who_stops_listening_stops_the_answer(workers: FakeWorkers, clock: FakeClock) -> None:
    async with make_pool(workers, clock) as pool:
        asked = Asked(pool)
        worker = await ready(workers)
        (id,) = worker.held
        worker.say(id, "a")
        await settle()
        asked.task.cancel()
        await settle()
        assert worker.cancelled == [id]


async def test_answers_that_had_begun_are_told_that_their_worker_died(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        first, second = Asked(pool), Asked(pool, "other")
        worker = await ready(workers)
        worker.say(next(iter(worker.held)), "a")
        await settle()
        worker.die()
        for asked in (first, second):
            with pytest.raises(ServeError) as raised:
                await asked.task
            assert raised.value.code is ErrorCode.MODEL_UNAVAILABLE
        assert first.heard == "a"

        after = Asked(pool, "next")
        successor = await ready(workers)
        (id,) = successor.held
        successor.say(id, "b", ends=True)
        await after.task


async def deaths(workers: FakeWorkers, pool: Pool, prompt: str, report: ExitReport) -> None:
    assert isinstance(report.reason, Failure)
    for _ in range(2):
        asked = Asked(pool, prompt)
        (await ready(workers)).die(report.reason, exit_code=report.exit_code)
        with pytest.raises(ServeError) as raised:
            await asked.task
        assert raised.value.code is ErrorCode.MODEL_UNAVAILABLE


async def test_a_prompt_that_was_there_at_two_deaths_is_refused(
    workers: FakeWorkers, clock: FakeClock
) -> None:
    async with make_pool(workers, clock) as pool:
        crashed = ExitReport(Failure.CRASHED, exit_code=-signal.SIGSEGV)
        await deaths(workers, pool, "poison", crashed)
        with pytest.raises(ServeError) as refused:
            await Asked(pool, "poison").task
        assert refused.value.code is ErrorCode.REQUEST_QUARANTINED


@pytest.mark.parametrize(
    "report",
    [ExitReport(Failure.CRASHED, exit_code=-signal.SIGKILL), ExitReport(Failure.STOPPED)],
    ids=["killed", "stopped"],
)
async def test_nobody_is_suspected_of_what_was_done_from_outside(
    workers: FakeWorkers, clock: FakeClock, report: ExitReport
) -> None:
    async with make_pool(workers, clock) as pool:
        await deaths(workers, pool, "innocent", report)
        asked = Asked(pool, "innocent")
        worker = await ready(workers)
        (id,) = worker.held
        worker.say(id, "a", ends=True)
        await asked.task


@pytest.mark.parametrize(
    "sign", [ChatWorker.read, lambda worker, id: worker.say(id, "a")], ids=["read", "said"]
)
async def test_the_deadline_starts_anew_with_every_sign_of_progress(
    workers: FakeWorkers, clock: FakeClock, sign: Callable[[ChatWorker, int], None]
) -> None:
    async with make_pool(workers, clock) as pool:
        asked = Asked(pool)
        worker = await ready(workers)
        (id,) = worker.held
        lane = pool._residents.lanes[CHAT.name]
        clock.advance(100)
        sign(worker, id)
        clock.advance(100)
        lane._on_deadline(asked.call)
        await settle()
        assert not asked.task.done()
        clock.advance(21)
        lane._on_deadline(asked.call)
        with pytest.raises(ServeError) as raised:
            await asked.task
        assert raised.value.code is ErrorCode.INFERENCE_TIMEOUT

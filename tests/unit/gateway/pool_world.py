"""A pool in a world where anything happens at any moment: clients, workers, operators, the clock.

Invariants that ``check`` and ``finish`` hold the pool to: no more models in memory than there are
places, no model with two workers, every request ends exactly once and with its own answer, nobody
waits for ever, no lease and no place is left behind.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from mlx_serve_common.chat import Delta, Finish, Plain, Sampling
from mlx_serve_common.config import ChatConfig
from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.launch import Allowance
from mlx_serve_common.models import InstalledModel, ModelKind
from mlx_serve_common.wire import Batch, Embed, Generate, Generated, Result, Scored
from mlx_serve_gateway.calls import EmbedCall, EmbedOptions
from mlx_serve_gateway.eviction import Room
from mlx_serve_gateway.footprint import Footprints
from mlx_serve_gateway.generate_call import GenerateCall
from mlx_serve_gateway.lane import Phase
from mlx_serve_gateway.lane_status import LaneStatus
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.residents import PoolSettings
from mlx_serve_gateway.worker import ExitReport, Failure, Observer
from tests.clock import FakeClock
from tests.unit.gateway.fake_workers import FakeWorker, FakeWorkers, settle, vector
from tests.unit.gateway.pools import GIB, TTL_S, make_pool, model

SLOTS = 2
MEMORY_GIB = 3.0
MODELS = [
    model("a", weights_gib=1),
    model("b"),
    model("c", weights_gib=1.5),
    model("pinned"),
    model("ranker", ModelKind.RERANKER, weights_gib=1),
    model("huge", weights_gib=9),
]
CHATS = [model("talker", ModelKind.CHAT), model("singer", ModelKind.CHAT, weights_gib=0.5)]
POISON = "poison"
WORDS = ["one ", "two ", "three"]
ROUNDS = 900
"""Seconds in which everybody has an answer once all is well; pauses of a model are part of it."""

_WITHOUT_PLACE = (Phase.ABSENT.value, Phase.WAITING.value)
_FINISH = Finish("stop", None, 1, 0, 3, 0, 0.0, 0.0)


class CountingCall(EmbedCall):
    """Notices an item that is answered twice."""

    def put(self, result: Result, positions: Sequence[int]) -> None:
        indexes = [result.ids[at] - self.first_id for at in positions]
        assert all(self.vectors[index] == b"" for index in indexes), "an item was answered twice"
        super().put(result, positions)


class SimWorker(FakeWorker):
    """Computes vectors and speaks; one that ``is_stillborn`` is never started."""

    is_stillborn = False

    def __init__(self, pid: int, model: InstalledModel, observer: Observer) -> None:
        super().__init__(pid, model, observer)
        self._said: dict[int, int] = {}

    async def run(self) -> ExitReport:
        if self.is_stillborn:
            # One for each: an error keeps all that it was raised through.
            error = ServeError(ErrorCode.MODEL_UNAVAILABLE, "could not be started")
            self.die(Failure.NOT_STARTED, error)
            return ExitReport(Failure.NOT_STARTED, error)
        return await super().run()

    def submit(self, batch: Batch) -> None:
        embeds = [part for part in batch.parts if isinstance(part, Embed)]
        if embeds:
            super().submit(Batch(list(embeds)))
        for part in batch.parts:
            if isinstance(part, Generate):
                assert self.is_ready and self.stop_reason is None
                assert not self.held.keys() & set(part.ids)
                assert isinstance(part.prompt, Plain)
                self.held |= dict.fromkeys(part.ids, part.prompt.text)
                self._said |= dict.fromkeys(part.ids, 0)

    def work(self, most: int) -> None:
        """Answer so many of what it holds, or say a word in each of so many answers."""
        ids = list(self.held)[:most]
        if ids and self.model.kind is ModelKind.CHAT:
            self._speak(ids)
        else:
            self.answer(ids)

    def _speak(self, ids: list[int]) -> None:
        deltas = []
        for id in ids:
            word = WORDS[self._said[id]]
            self._said[id] += 1
            is_last = self._said[id] == len(WORDS)
            deltas.append(Delta(word, finish=_FINISH if is_last else None))
        self.answer_with(Generated(ids, deltas))

    def talk_nonsense(self) -> None:
        id = next(iter(self.held))
        self.answer_with(Scored([id], [0.5], [0.5], [1], [], 0.001))


class SimWorkers(FakeWorkers):
    def __init__(self, on_launch: Callable[[], None]) -> None:
        super().__init__(SimWorker)
        self.stillborn = 0
        """How many of the next ones are."""
        self._on_launch = on_launch

    def launch(self, model: InstalledModel, observer: Observer, allowance: Allowance) -> FakeWorker:
        worker = super().launch(model, observer, allowance)
        assert isinstance(worker, SimWorker)
        if self.stillborn:
            self.stillborn -= 1
            worker.is_stillborn = True
        self._on_launch()
        return worker


class World:
    """A pool, its workers, its clients; applies events and checks what must always hold."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.workers = SimWorkers(self.check)
        self.pool: Pool = make_pool(
            self.workers,
            self.clock,
            slots=SLOTS,
            memory_gib=MEMORY_GIB,
            pinned=("pinned",),
            batch_items=3,
        )
        self.requests: list[tuple[list[bytes], asyncio.Task[list[bytes]]]] = []
        """What each is to be answered, and the client who waits for it."""
        self.retirements: list[asyncio.Task[None]] = []
        self._places = dict.fromkeys(ModelKind, SLOTS)
        """With how many the pool may be found: fewer places take effect as models leave."""

    # --- clients ---------------------------------------------------------------------------------

    async def ask(
        self, of: InstalledModel, texts: list[str], ttl_s: float | None = None, pause: int = 0
    ) -> list[bytes]:
        call = CountingCall(list(texts), EmbedOptions())
        with self.pool.lease(of, call, ttl_s=ttl_s) as lane:
            for _ in range(pause):
                await asyncio.sleep(0)
            await lane.answer(call)
        return call.vectors

    async def chat(self, of: InstalledModel, prompt: str, choices: int) -> list[bytes]:
        call = GenerateCall(Plain(prompt), Sampling(), choices)
        heard = [""] * choices
        with self.pool.lease(of, call) as lane, lane.asked(call):
            async for said in call.hear_all(3600):
                for each in said:
                    heard[each.choice] += each.delta.text
        return [text.encode() for text in heard]

    async def retire(self, of: InstalledModel, is_removed: bool) -> None:
        try:
            async with self.pool.retire(of, within_s=3600):
                for _ in range(3):
                    assert not [w for w in self.workers.living if w.model == of], "still there"
                    await asyncio.sleep(0)
                if not is_removed:
                    raise OSError
        except OSError:
            assert not is_removed
        except ServeError as error:
            assert error.code is ErrorCode.MODEL_BUSY

    # --- what can happen -------------------------------------------------------------------------

    def apply(self, event: tuple[Any, ...]) -> None:
        match event:
            case ("ask", of, texts, *more):
                answer = [vector(text) for text in texts]
                self._begin(answer, self.ask(of, texts, *more))
            case ("chat", of, prompt, choices):
                answer = ["".join(WORDS).encode()] * choices
                self._begin(answer, self.chat(of, prompt, choices))
            case ("cancel", number) if number < len(self.requests):
                self.requests[number][1].cancel()
            case ("retire", of, is_removed):
                self.retirements.append(asyncio.ensure_future(self.retire(of, is_removed)))
            case ("preload" | "unload" | "pin" | "unpin" as what, of):
                getattr(self.pool, what)(of)
            case ("configure", slots, ttl_s):
                self.configure(slots, ttl_s)
            case ("stillborn", count):
                self.workers.stillborn = count
            case ("pass", seconds):
                self.clock.advance(seconds)
                self.pool.tick()
            case (what, number, *more) if isinstance(number, int):
                living = self.workers.living
                if number < len(living):
                    self.act(living[number], what, *more)

    def _begin(self, answer: list[bytes], client: Any) -> None:
        self.requests.append((answer, asyncio.ensure_future(client)))

    def configure(self, slots: int, ttl_s: float) -> None:
        settings: PoolSettings = self.pool._residents.settings
        room = Room(dict.fromkeys(ModelKind, slots), int(MEMORY_GIB * GIB))
        taken = self._taken(self.pool.statuses())
        self._places = {kind: max(slots, taken[kind]) for kind in ModelKind}
        self.pool.configure(msgspec.structs.replace(settings, room=room, ttl_s=ttl_s))

    def act(self, worker: FakeWorker, what: str, *more: Any) -> None:
        assert isinstance(worker, SimWorker)
        match what:
            case "ready" if not worker.is_ready and worker.stop_reason is None:
                worker.become_ready()
            case "work" if worker.held:
                worker.work(more[0])
            case "nonsense" if worker.held:
                worker.talk_nonsense()
            case "reject" if worker.held:
                worker.reject(ErrorCode.INFERENCE_FAILED, list(worker.held)[:1])
            case "die" if more[0] in (Failure.UNLOADABLE, Failure.START_TIMEOUT):
                if not worker.is_ready:
                    worker.die(more[0], ServeError(ErrorCode.INVALID_MODEL, "unloadable"))
            case "die" if more[0] is not Failure.NOT_STARTED:
                worker.die(more[0])
            case "leave" if worker.stop_reason is not None:
                worker.leave()

    # --- what must hold --------------------------------------------------------------------------

    def _taken(self, statuses: list[LaneStatus]) -> Counter[str]:
        return Counter(each.kind for each in statuses if each.state not in _WITHOUT_PLACE)

    def check(self) -> None:
        slots = self.pool._residents.settings.room.slots
        statuses = self.pool.statuses()
        taken = self._taken(statuses)
        for kind in ModelKind:
            living = sum(worker.model.kind is kind for worker in self.workers.living)
            assert living <= taken[kind] <= self._places[kind]
            self._places[kind] = max(slots[kind], taken[kind])
        footprint_of = Footprints(int(MEMORY_GIB * GIB), ChatConfig()).of
        memory = sum(footprint_of(worker.model.manifest) for worker in self.workers.living)
        assert memory <= MEMORY_GIB * GIB
        assert all(status.leases >= 0 for status in statuses)
        open_requests = sum(not request.done() for _, request in self.requests)
        assert sum(status.leases for status in statuses) <= open_requests

    async def finish(self) -> None:
        """Healthy workers from here on, which die of poison only: everybody gets an answer."""
        self.workers.stillborn = 0
        self.configure(SLOTS, TTL_S)
        for _ in range(ROUNDS):
            if all(task.done() for task in (*self.retirements, *(r for _, r in self.requests))):
                break
            await self._a_good_second()
        else:
            raise AssertionError(f"requests without an answer: {self.pool.statuses()}")
        self._check_answers()
        await self._come_to_rest()

    async def _a_good_second(self) -> None:
        for worker in self.workers.living:
            assert isinstance(worker, SimWorker)
            if worker.stop_reason is not None:
                while worker.held:
                    worker.work(len(worker.held))
                worker.leave()
            elif not worker.is_ready:
                worker.become_ready()
            elif POISON in worker.held.values():
                worker.die()
            else:
                worker.work(len(worker.held))
        await settle()
        self.check()
        self.clock.advance(1.0)
        self.pool.tick()

    async def _come_to_rest(self) -> None:
        """When all is done nothing is left of it, and the models go when their time is over."""
        for of in (*MODELS, *CHATS):
            self.pool.unpin(of)
        for _ in range(5):
            await self._a_good_second()
        for status in self.pool.statuses():
            assert (status.leases, status.in_flight, status.queued) == (0, 0, 0), status
        for _ in range(5):
            self.clock.advance(10 * TTL_S)
            await self._a_good_second()
        kept = {status.model for status in self.pool.statuses() if status.expires_in_s > 1e9}
        assert {worker.model.name for worker in self.workers.living} <= kept

    def _check_answers(self) -> None:
        for retirement in self.retirements:
            retirement.result()
        self.check_ended()

    def check_ended(self) -> None:
        for answer, request in self.requests:
            assert request.done()
            if request.cancelled():
                continue
            if (error := request.exception()) is None:
                assert request.result() == answer
            else:
                assert isinstance(error, ServeError), error

"""One model as the pool sees it: its queue, its worker of the moment, and who is using it.

    ABSENT ──► WAITING ──► LOADING ──► READY ──► (YIELDING) ──► LEAVING ──► ABSENT or WAITING
               for room       ▲          │       finishes its
                              └──────────┘       running work
                                 crash
Invariants: the pool is the only writer of ``phase`` and ``ttl_s``; calls queue whatever the phase
is, so a load is shared by everybody who waits for it, and a worker's death loses none of them.
"""

import asyncio
import logging
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum

import msgspec

from mlx_serve_common.chat import Delta
from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import InstalledModel
from mlx_serve_common.wire import (
    Batch,
    BatchBudget,
    Embedded,
    Generated,
    Progress,
    Ready,
    Rejected,
    Result,
    Scored,
    settled,
)
from mlx_serve_gateway.batcher import Batcher, BatchLimits
from mlx_serve_gateway.breaker import WINDOW_S, Breaker
from mlx_serve_gateway.calls import Call, by_call
from mlx_serve_gateway.eviction import Occupant
from mlx_serve_gateway.load_progress import LoadProgress
from mlx_serve_gateway.meter import Meter
from mlx_serve_gateway.quarantine import Quarantine
from mlx_serve_gateway.refusals import (
    answer_lost,
    killed_by_input,
    not_an_answer,
    shutting_down,
    still_loading,
    too_slow,
)
from mlx_serve_gateway.tracing import Work, works
from mlx_serve_gateway.worker import Failure, Worker

log = logging.getLogger(__name__)


REFUSAL_SHOWN_S = 60.0
"""For so long a model that could not be had is a problem of the server, if only a request wanted
it."""


class Phase(Enum):
    ABSENT = "absent"
    WAITING = "waiting for room"
    LOADING = "loading"
    READY = "ready"
    YIELDING = "yielding"
    LEAVING = "leaving"


class LaneLimits(msgspec.Struct, frozen=True, kw_only=True):
    batch: BatchLimits
    request_timeout_s: float = 120
    load_timeout_s: float = 300
    linger_s: float = 0


class Lane:
    def __init__(
        self,
        model: InstalledModel,
        limits: LaneLimits,
        now: Callable[[], float],
        meter: Meter,
    ) -> None:
        self.model = model
        self.ttl_s = math.inf
        """How long it stays without being used: of this stay, a request may have set it."""
        self.is_pinned = False
        self.is_retiring = False
        """It is about to be removed: what was asked is finished, nothing new is admitted."""
        self._phase = Phase.ABSENT
        self.absent = asyncio.Event()
        self.absent.set()
        self.leases = 0
        self.is_promised = False
        """It was to be loaded at start: without it the server is not ready."""
        self.is_wanted = False
        """A preload asked for it; ends when the model is loaded."""
        self.waiting_since = 0.0
        self.ready_since: float | None = None
        self.last_used = now()
        self.last_success: float | None = None
        self.restarts = 0
        self.worker: Worker | None = None
        self.loaded: Ready | None = None
        """What the worker of this stay said when the model was loaded."""
        self.load: LoadProgress | None = None
        """While there is a worker that is not ready."""
        self.budget: BatchBudget | None = None
        self.refusal: ServeError | None = None
        """Why it is absent although it was wanted."""
        self.refused_at = 0.0
        self.batcher = Batcher(limits.batch)
        self.breaker = Breaker()
        self.quarantine = Quarantine()
        self._limits = limits
        self._linger: asyncio.TimerHandle | None = None
        self._now = now
        self._meter = meter

    @property
    def phase(self) -> Phase:
        return self._phase

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._phase = phase
        if phase is Phase.ABSENT:
            self.absent.set()
        else:
            self.absent.clear()

    @property
    def has_demand(self) -> bool:
        if self.leases > 0 or not self.batcher.is_empty:
            return True
        return (self.is_wanted or self.is_pinned) and not self.is_retiring

    @property
    def expires_at(self) -> float:
        return math.inf if self.is_pinned else self.last_used + self.ttl_s

    @property
    def is_idle(self) -> bool:
        return self.phase is Phase.READY and self.leases == 0 and self.batcher.is_empty

    def trouble(self, now: float) -> str | None:
        """Why it is absent, for as long as somebody misses it or may do so soon."""
        if self.refusal is None:
            return None
        is_missed = self.is_promised or self.is_pinned or self.breaker.open_for(now) is not None
        is_news = now - self.refused_at < REFUSAL_SHOWN_S
        return self.refusal.message if is_missed or is_news else None

    def occupant(self, footprint_bytes: int) -> Occupant:
        return Occupant(
            name=self.model.name,
            kind=self.model.kind,
            footprint_bytes=footprint_bytes,
            last_used=self.last_used,
            is_idle=self.is_idle,
            is_pinned=self.is_pinned,
            is_leaving=self.phase in (Phase.YIELDING, Phase.LEAVING),
        )

    # --- calls -----------------------------------------------------------------------------------

    async def answer(self, call: Call) -> None:
        """Have a call computed; raises ServeError when it cannot be. Cancel it by cancelling."""
        with self.asked(call):
            await call.done

    @contextmanager
    def asked(self, call: Call) -> Iterator[None]:
        """Have a call computed while the block runs; what is left of it then is abandoned."""
        if self.phase is Phase.ABSENT:
            # Given up since it was leased, and those who had asked were told.
            raise self.refusal or shutting_down()
        call.asked_at = self._now()
        self.batcher.offer(call)
        self.pump()
        self._arm_deadline(call, self._limits.request_timeout_s)
        try:
            yield
        finally:
            if call.deadline is not None:
                call.deadline.cancel()
            if call.remaining:
                self._abandon(call)
            ended_at = self._now()
            self._meter.ended(self.model, ended_at - call.asked_at)
            if (traced := works.get()) is not None:
                traced.add(Work(self.model.name, call.asked_at, call.sent_at, ended_at))

    def fail_all(self, error: ServeError) -> None:
        for call in self.batcher.drain_calls():
            call.fail(error)

    def _abandon(self, call: Call) -> None:
        in_worker = self.batcher.cancel(call)
        if in_worker and self.worker is not None:
            self.worker.cancel(in_worker)

    def _arm_deadline(self, call: Call, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        call.deadline = loop.call_later(delay_s, self._on_deadline, call)

    def _on_deadline(self, call: Call) -> None:
        """The time for computing starts when the model is there, and anew with each word it says;
        loading has a limit of its own."""
        if self.ready_since is None:
            ends_at = call.asked_at + self._limits.load_timeout_s
            error = still_loading(self.model.name)
        else:
            moved_at = max(call.asked_at, self.ready_since, call.moved_at)
            ends_at = moved_at + self._limits.request_timeout_s
            error = too_slow(self._limits.request_timeout_s)
        if (left := ends_at - self._now()) > 0:
            self._arm_deadline(call, left)
        else:
            call.fail(error)

    # --- the worker ------------------------------------------------------------------------------

    def pump(self, *, lingered: bool = False) -> None:
        """Give the worker what it has credit for."""
        if self.phase is not Phase.READY or self.worker is None:
            return
        if not lingered and self._should_linger():
            return
        while (batch := self.batcher.take()) is not None:
            self.worker.submit(batch)
            for call in self._begun(batch):
                call.sent_at = self._now()
                self._meter.waited(self.model, call.sent_at - call.asked_at)

    def _begun(self, batch: Batch) -> Iterator[Call]:
        """Those of which nothing was in a batch before this one."""
        for part in batch.parts:
            call = self.batcher.callers(part.ids[:1])[0]
            if call is not None and call.sent_at is None:
                yield call

    def _should_linger(self) -> bool:
        """Wait ``max_wait_ms`` for company, where that is configured and the worker is idle."""
        if not self._limits.linger_s or self.batcher.in_worker or self.batcher.is_full_batch:
            return False
        if self._linger is None and self.batcher.queued:
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(self._limits.linger_s, self._on_lingered)
        return self._linger is not None

    def _on_lingered(self) -> None:
        self._linger = None
        self.pump(lingered=True)

    def take_back(self) -> None:
        """The worker left as it was told to: what it held is sent to the next one."""
        for call in self.batcher.take_back():
            call.fail(answer_lost())

    def recover(self, failure: Failure, exit_code: int | None = None) -> float | None:
        """The worker died: what it held is sent again where that can be.

        How long to wait before the next worker, if it has happened too often.
        """
        now = self._now()
        recovered = self.batcher.recover()
        # Nothing in an input makes a process kill or stop itself so: somebody else did it.
        is_murder = failure is Failure.STOPPED or exit_code == -signal.SIGKILL
        is_explained = bool(recovered.killers) and not is_murder and self._works(now)
        if failure is not Failure.NOT_STARTED:
            self.restarts += 1
            if not is_explained:
                self.breaker.record_death(now)
        for call, index in recovered.killers:
            if is_murder:
                call.fail(answer_lost())
            else:
                self.quarantine.add(call.fingerprint(index), now)
                call.fail(killed_by_input(failure, index, call.size))
        for call, index in recovered.lost:
            if not is_murder:
                self.quarantine.suspect(call.fingerprint(index), now)
            call.fail(answer_lost())
        if recovered.killers or recovered.lost:
            self._refuse_the_like(now)
        return self.breaker.open_for(now)

    def _works(self, now: float) -> bool:
        """It does not die of everything that it is asked."""
        return self.last_success is not None and now - self.last_success < WINDOW_S

    def _refuse_the_like(self, now: float) -> None:
        """What has just killed a worker may have been asked more than once."""
        for call in self.batcher.calls():
            try:
                self.quarantine.check(call, now)
            except ServeError as error:
                call.fail(error)
                self._abandon(call)

    def on_result(self, result: Result) -> None:
        calls = self.batcher.settle(result.ids)
        if isinstance(result, Rejected):
            self._on_rejected(result, calls)
        else:
            self.last_success = self._now()
            self.breaker.record_success()
            self._meter.computed(self.model, result)
            if isinstance(result, Embedded | Scored):
                self.batcher.pass_s = result.compute_s
            for call, positions in by_call(calls, range(len(calls))).items():
                if isinstance(result, call.answered_by):
                    call.put(result, positions)
                else:
                    self._on_nonsense(call, result)
        self.pump()

    def _on_nonsense(self, call: Call, message: Result | Progress) -> None:
        log.error("%s answered a %s with %s", self.model.name, type(call), type(message))
        call.fail(not_an_answer())

    def on_progress(self, progress: Progress) -> None:
        now = self._now()
        callers = self.batcher.callers(progress.ids)
        if ended := settled(progress):
            self.batcher.settle(ended)
        for position, (id, call) in enumerate(zip(progress.ids, callers, strict=True)):
            if call is not None:
                call.moved_at = now
                if not isinstance(progress, Generated):
                    continue
                if call.answered_by is Generated:
                    self._hear(call, id, progress.deltas[position], now)
                else:
                    self._on_nonsense(call, progress)
        if isinstance(progress, Generated):
            self.last_success = now
        if ended:
            self.breaker.record_success()
            self.pump()

    def _hear(self, call: Call, id: int, delta: Delta, now: float) -> None:
        since = call.heard_at or call.asked_at
        self._meter.said(self.model, now - since, is_first=call.heard_at is None)
        if delta.finish is not None:
            self._meter.answered(self.model, delta.finish)
        call.heard_at = now
        call.hear(id, delta)

    def _on_rejected(self, result: Rejected, calls: list[Call | None]) -> None:
        for id, call in zip(result.ids, calls, strict=True):
            if call is not None:
                where = f"input {id - call.first_id}: " if call.size > 1 else ""
                param = result.param or "input"
                call.fail(ServeError(result.code, where + result.message, param=param))

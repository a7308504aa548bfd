"""Which models are in memory: the only place that starts, evicts and gives up on workers.

Invariants: one lane per model, so one load however many wait for it; a lane's process counts
against the limits until it has been reaped; a busy model is never evicted, but when another has
waited for ``PATIENCE_S``, one that is never idle finishes its running work, makes room, and queues.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from contextvars import Context

import msgspec

from mlx_serve_common.errors import ServeError
from mlx_serve_common.launch import Allowance
from mlx_serve_common.models import InstalledModel, ModelKind
from mlx_serve_common.wire import BatchBudget, Loading, Note, Progress, Ready, Result
from mlx_serve_gateway.alarm import Alarm
from mlx_serve_gateway.eviction import (
    Evict,
    Fits,
    Never,
    Room,
    Wait,
    make_room,
    next_to_yield,
)
from mlx_serve_gateway.footprint import Footprints
from mlx_serve_gateway.lane import Lane, LaneLimits, Phase
from mlx_serve_gateway.load_progress import LoadProgress
from mlx_serve_gateway.meter import Meter
from mlx_serve_gateway.refusals import (
    being_removed,
    keeps_failing,
    no_room,
    shutting_down,
)
from mlx_serve_gateway.server_events import Died, Left, Loaded, Loads, Refused, Tell
from mlx_serve_gateway.worker import ExitReport, Observer, StopReason, Worker

log = logging.getLogger(__name__)

PATIENCE_S = 5.0

_IN_MEMORY = (Phase.LOADING, Phase.READY, Phase.YIELDING, Phase.LEAVING)


Launch = Callable[[InstalledModel, Observer, Allowance], Worker]


class PoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    room: Room
    footprints: Footprints
    lanes: Mapping[ModelKind, LaneLimits]
    ttl_s: float = 1800
    pinned: frozenset[str] = frozenset()


class Residents:
    def __init__(
        self,
        settings: PoolSettings,
        launch: Launch,
        now: Callable[[], float],
        tell: Tell,
        meter: Meter,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.settings = settings
        self.lanes: dict[str, Lane] = {}
        self.is_stopping = False
        self._launch = launch
        self._now = now
        self._tell = tell
        self._meter = meter
        self._tasks = tasks
        self._alarm = Alarm(now, self.tick)

    # --- wanting a model -------------------------------------------------------------------------

    def wanted(self, model: InstalledModel) -> Lane:
        """The model's lane, on its way into memory; raises ServeError if it cannot be."""
        if self.is_stopping:
            raise shutting_down()
        lane = self.lane(model)
        if lane.is_retiring:
            raise being_removed(model.name)
        if lane.phase is Phase.ABSENT:
            lane.model = model
            lane.ttl_s = self.settings.ttl_s
            if (pause := lane.breaker.open_for(self._now())) is not None:
                raise keeps_failing(model.name, pause)
            self._wait_for_room(lane)
            self.reconcile()
            if lane.phase is Phase.ABSENT and lane.refusal is not None:
                raise lane.refusal
        return lane

    def promise(self, model: InstalledModel) -> None:
        """Load it in the background, unless what was promised before leaves no room for it."""
        lane = self.lane(model)
        lane.is_promised = True
        try:
            if lane.phase is Phase.ABSENT and (message := self._promised_too_much(lane)):
                self._refuse(lane, no_room(message))
                raise no_room(message)
            self.wanted(model)
            lane.is_wanted = lane.ready_since is None
        except ServeError as error:
            log.error("%s is not preloaded: %s", model.name, error.message)

    def _promised_too_much(self, lane: Lane) -> str | None:
        """Models that are to be kept must not evict each other."""
        of = self.settings.footprints.of
        kept = [
            msgspec.structs.replace(other.occupant(of(other.model.manifest)), is_pinned=True)
            for other in self.lanes.values()
            if other is not lane and other.refusal is None
            if other.is_promised or other.is_pinned
        ]
        footprint = of(lane.model.manifest)
        decision = make_room(lane.model.kind, footprint, kept, self.settings.room)
        return decision.message if isinstance(decision, Never) else None

    def lane(self, model: InstalledModel) -> Lane:
        """The model's lane, wherever it is."""
        lane = self.lanes.get(model.name)
        if lane is None:
            limits = self.settings.lanes[model.kind]
            lane = self.lanes[model.name] = Lane(model, limits, self._now, self._meter)
            lane.is_pinned = model.name in self.settings.pinned
            lane.ttl_s = self.settings.ttl_s
        return lane

    def _wait_for_room(self, lane: Lane) -> None:
        lane.phase = Phase.WAITING
        lane.waiting_since = self._now()
        lane.refusal = None

    def on_released(self, lane: Lane) -> None:
        """Somebody wants it no longer."""
        if lane.phase is Phase.WAITING and not lane.has_demand:
            lane.phase = Phase.ABSENT
        if not self.is_stopping:
            self.let_retire(lane)
            self._expire(lane)
            self.reconcile()

    def let_retire(self, lane: Lane) -> None:
        """See one off that is to be removed, once it has no more to do."""
        if not lane.is_retiring or lane.has_demand:
            return
        if lane.phase is Phase.WAITING:
            lane.phase = Phase.ABSENT
        elif lane.phase in (Phase.LOADING, Phase.READY) and lane.worker is not None:
            self.leave(lane, StopReason.REQUESTED)

    def _expire(self, lane: Lane) -> None:
        """Let it go if its time is over, else look again when it will be."""
        if not lane.is_idle or lane.expires_at == math.inf:
            return
        if lane.expires_at <= self._now():
            self.leave(lane, StopReason.IDLE)
        else:
            self._alarm.set(lane.expires_at)

    def stop(self) -> None:
        """Let every worker go; nothing new is admitted."""
        self.is_stopping = True
        self._alarm.clear()
        for lane in self.lanes.values():
            if lane.phase is Phase.WAITING:
                self._refuse(lane, shutting_down())
            elif lane.worker is not None:
                self.leave(lane, StopReason.SHUTDOWN)

    # --- making room -----------------------------------------------------------------------------

    def reconcile(self) -> None:
        """Let in whoever fits, in the order they came, and make room for the others."""
        waiting = [lane for lane in self.lanes.values() if lane.phase is Phase.WAITING]
        waiting.sort(key=lambda lane: lane.waiting_since)
        for lane in waiting:
            self._admit(lane)

    def _admit(self, lane: Lane) -> None:
        footprint_of = self.settings.footprints.of
        occupants = [
            other.occupant(footprint_of(other.model.manifest))
            for other in self.lanes.values()
            if other.phase in _IN_MEMORY
        ]
        footprint = footprint_of(lane.model.manifest)
        match make_room(lane.model.kind, footprint, occupants, self.settings.room):
            case Fits():
                lane.phase = Phase.LOADING
                # A context of its own: what the worker logs does not belong to the request that
                # happened to start it.
                stay = self._tasks.create_task(self._keep(lane), context=Context())
                stay.add_done_callback(_tell_fault)
            case Evict(names):
                for name in names:
                    self.leave(self.lanes[name], StopReason.EVICTED)
            case Wait(for_busy=True):
                patient_until = lane.waiting_since + PATIENCE_S
                if self._now() < patient_until:
                    self._alarm.set(patient_until)
                elif (busy := next_to_yield(lane.model.kind, occupants)) is not None:
                    self._yield_place(self.lanes[busy])
            case Wait():
                pass
            case Never(message):
                self._refuse(lane, no_room(message))

    def _refuse(self, lane: Lane, error: ServeError) -> None:
        lane.phase = Phase.ABSENT
        lane.is_wanted = False
        lane.refusal = error
        lane.refused_at = self._now()
        lane.fail_all(error)
        model = lane.model
        self._tell(Refused(model=model.name, kind=model.kind, message=error.message))

    def _yield_place(self, lane: Lane) -> None:
        if lane.phase is Phase.READY:
            lane.phase = Phase.YIELDING
            self._leave_when_done(lane)

    def _leave_when_done(self, lane: Lane) -> None:
        if lane.phase is Phase.YIELDING and not lane.batcher.in_worker:
            self.leave(lane, StopReason.EVICTED)

    def leave(self, lane: Lane, reason: StopReason) -> None:
        lane.phase = Phase.LEAVING
        lane.ready_since = None
        if lane.worker is not None:
            lane.worker.request_stop(reason)

    # --- a stay in memory ------------------------------------------------------------------------

    async def _keep(self, lane: Lane) -> None:
        """One stay: worker follows worker until the model leaves or cannot be kept."""
        # The stop, or the end of all demand, may have come since it was admitted.
        stays = not self.is_stopping and (lane.has_demand or not lane.is_retiring)
        if not stays:
            self._rest(lane)
        while stays:
            lane.phase = Phase.LOADING
            allowance = self.settings.footprints.allowance(lane.model.manifest)
            lane.load = LoadProgress(self._now())
            lane.worker = self._launch(lane.model, _LaneObserver(self, lane), allowance)
            report = await lane.worker.run()
            lane.worker = lane.loaded = lane.load = lane.budget = None
            lane.ready_since = None
            stays = self._stays_after(lane, report)
        if not self.is_stopping:
            self.reconcile()

    def on_note(self, lane: Lane, note: Note) -> None:
        model = lane.model
        match note:
            case BatchBudget():
                lane.budget = note
            case Loading(stage, done):
                if lane.load is not None and lane.load.hear(note, self._now()):
                    self._tell(Loads(model=model.name, kind=model.kind, stage=stage, done=done))

    def on_ready(self, lane: Lane, ready: Ready) -> None:
        log.info("loaded %s on %s in %.2f s", lane.model.name, ready.device, ready.load_s)
        self._tell(
            Loaded(
                model=lane.model.name,
                kind=lane.model.kind,
                pid=ready.pid,
                device=ready.device,
                load_s=ready.load_s,
                memory_bytes=ready.memory_bytes,
            )
        )
        lane.is_wanted = False
        lane.load = None
        lane.loaded = ready
        lane.ready_since = lane.last_used = self._now()
        if lane.phase is Phase.LOADING:
            lane.phase = Phase.READY
            lane.pump()
            self._expire(lane)
            # Others may have waited for it to be movable: nobody can leave while loading.
            self.reconcile()

    def on_result(self, lane: Lane, result: Result) -> None:
        lane.on_result(result)
        self._after_work(lane)

    def on_progress(self, lane: Lane, progress: Progress) -> None:
        lane.on_progress(progress)
        self._after_work(lane)

    def _after_work(self, lane: Lane) -> None:
        self._leave_when_done(lane)
        if lane.is_idle:
            # Its clients had left before their work was done.
            self.on_released(lane)

    def _stays_after(self, lane: Lane, report: ExitReport) -> bool:
        """Settle the accounts of a worker that ended; whether another follows at once."""
        model, reason = lane.model, report.reason
        word = reason.name.lower()
        if isinstance(reason, StopReason):
            self._tell(Left(model=model.name, kind=model.kind, reason=word))
            lane.take_back()
            self._rest(lane)
            return False
        log.warning("the worker of %s %s", model.name, reason.value)
        code = report.exit_code
        self._tell(Died(model=model.name, kind=model.kind, reason=word, exit_code=code))
        pause = lane.recover(reason, report.exit_code)
        error = report.error or (None if pause is None else keeps_failing(model.name, pause))
        if error is not None:
            self._refuse(lane, error)
            self._alarm.set(self._now() + (pause or 1.0))
            return False
        if self.is_stopping or not lane.has_demand:
            self._rest(lane)
            return False
        return True

    def _rest(self, lane: Lane) -> None:
        if lane.has_demand and not self.is_stopping:
            self._wait_for_room(lane)
        else:
            lane.phase = Phase.ABSENT
            lane.fail_all(shutting_down())

    # --- time ------------------------------------------------------------------------------------

    def tick(self) -> None:
        """What time alone brings: idle models leave, pinned ones come back, patience ends."""
        if self.is_stopping:
            return
        now = self._now()
        for lane in self.lanes.values():
            self._expire(lane)
            if lane.is_pinned and lane.phase is Phase.ABSENT and not lane.is_retiring:
                if (pause := lane.breaker.open_for(now)) is not None:
                    self._alarm.set(now + pause)
                else:
                    self._wait_for_room(lane)
        self.reconcile()


def _tell_fault(stay: "asyncio.Task[None]") -> None:
    """At once, to whoever ends the server for it: its task group waits for the requests first."""
    if not stay.cancelled() and (error := stay.exception()) is not None:
        raise error


class _LaneObserver:
    def __init__(self, residents: Residents, lane: Lane) -> None:
        self._residents = residents
        self._lane = lane

    def on_ready(self, ready: Ready) -> None:
        self._residents.on_ready(self._lane, ready)

    def on_note(self, note: Note) -> None:
        self._residents.on_note(self._lane, note)

    def on_result(self, result: Result) -> None:
        self._residents.on_result(self._lane, result)

    def on_progress(self, progress: Progress) -> None:
        self._residents.on_progress(self._lane, progress)

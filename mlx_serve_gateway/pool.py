"""The models in memory, as those see them who use, load or remove one.

Invariants: who holds a lease keeps its model from being evicted; what is asked of a model here is
carried out by ``Residents``, which alone decides who stays.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Self

from mlx_serve_common.errors import ServeError
from mlx_serve_common.models import InstalledModel
from mlx_serve_gateway.calls import Call
from mlx_serve_gateway.lane import Lane, Phase
from mlx_serve_gateway.lane_status import LaneStatus, lane_status
from mlx_serve_gateway.meter import Meter
from mlx_serve_gateway.refusals import being_removed, still_in_use
from mlx_serve_gateway.residents import Launch, PoolSettings, Residents
from mlx_serve_gateway.server_events import Tell


class Pool:
    """An async context manager: leaving it ends every worker."""

    def __init__(
        self,
        settings: PoolSettings,
        launch: Launch,
        now: Callable[[], float],
        tell: Tell,
        meter: Meter,
    ) -> None:
        self._now = now
        self._meter = meter
        self._tasks = asyncio.TaskGroup()
        self._residents = Residents(settings, launch, now, tell, meter, self._tasks)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.request_stop()
        await self._tasks.__aexit__(kind, error, traceback)

    def tick(self) -> None:
        """Do what time alone brings."""
        self._residents.tick()

    @contextmanager
    def lease(
        self, model: InstalledModel, *calls: Call, ttl_s: float | None = None
    ) -> Iterator[Lane]:
        """Have the model loaded for these calls, and keep it from being evicted, while the block
        runs.

        ``ttl_s`` is how long it then stays unused, for the rest of this stay in memory.
        """
        for call in calls:
            # Before anything is loaded, or evicted, for what is refused anyway.
            self._residents.lane(model).quarantine.check(call, self._now())
        lane = self._residents.wanted(model)
        self._meter.leased(model, was_loaded=lane.ready_since is not None)
        if ttl_s is not None:
            lane.ttl_s = ttl_s
        lane.leases += 1
        lane.last_used = self._now()
        try:
            yield lane
        finally:
            lane.leases -= 1
            lane.last_used = self._now()
            self._residents.on_released(lane)

    def preload(self, model: InstalledModel) -> None:
        """Load a model in the background; whether it worked is seen in ``statuses``."""
        self._residents.promise(model)

    def unload(self, model: InstalledModel) -> None:
        """Let the model go as soon as nobody uses it; a pinned one stays."""
        lane = self._residents.lanes.get(model.name)
        if lane is not None and lane.phase is not Phase.ABSENT:
            lane.ttl_s = 0
            lane.is_wanted = False
            self._residents.on_released(lane)

    @asynccontextmanager
    async def retire(self, model: InstalledModel, within_s: float) -> AsyncIterator[None]:
        """Finish what was asked of the model, then keep it out of memory while the block runs.

        A block that ends well has removed the model: nothing is remembered of it. ``model_busy``
        if it is in use for longer, or is retiring already.
        """
        lane = self._residents.lane(model)
        if lane.is_retiring:
            raise being_removed(model.name)
        lane.is_retiring = True
        lane.is_wanted = lane.is_promised = False
        try:
            self._residents.let_retire(lane)
            try:
                async with asyncio.timeout(within_s):
                    await lane.absent.wait()
            except TimeoutError:
                raise still_in_use(model.name) from None
            yield
            self._residents.lanes.pop(model.name, None)
        finally:
            lane.is_retiring = False
            if not self._residents.is_stopping:
                self._residents.tick()

    def request_stop(self) -> None:
        """Let every worker go; nothing new is admitted."""
        self._residents.stop()

    def configure(self, settings: PoolSettings) -> None:
        """Other places, times and pins; the limits of lanes that exist stay."""
        before, self._residents.settings = self._residents.settings, settings
        for lane in self._residents.lanes.values():
            if lane.model.name in before.pinned ^ settings.pinned:
                lane.is_pinned = lane.model.name in settings.pinned
            if lane.ttl_s == before.ttl_s:
                lane.ttl_s = settings.ttl_s
        self._residents.tick()

    def pin(self, model: InstalledModel) -> None:
        """Load it, and keep it whatever happens."""
        lane = self._residents.lane(model)
        lane.is_pinned = True
        self._residents.tick()

    def unpin(self, model: InstalledModel) -> None:
        if (lane := self._residents.lanes.get(model.name)) is not None:
            lane.is_pinned = False
            self._residents.on_released(lane)

    def fail_all(self, error: ServeError) -> None:
        for lane in self._residents.lanes.values():
            lane.fail_all(error)

    @property
    def memory_budget(self) -> int:
        """Bytes, for all models."""
        return self._residents.settings.room.memory_bytes

    def statuses(self) -> list[LaneStatus]:
        return [lane_status(lane, self._now()) for _, lane in sorted(self._residents.lanes.items())]

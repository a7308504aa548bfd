"""GET|HEAD /, /health, /health/detail, /livez, /readyz: what is true about this server now.

``/livez`` says that the event loop turns, ``/readyz`` whether everything that was promised at start
is there, ``/health`` how the server is: ``degraded`` as soon as one model it should serve fails.
"""

import asyncio
import math
import os
from time import monotonic
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from mlx_serve_common import VERSION
from mlx_serve_common.wire import BudgetSource
from mlx_serve_gateway.http.answers import json_response
from mlx_serve_gateway.lane_status import LaneStatus
from mlx_serve_gateway.load_progress import LoadState
from mlx_serve_gateway.resident import resident_bytes
from mlx_serve_gateway.services import Services
from mlx_serve_gateway.spare import SpareStatus

Status = Literal["ok", "degraded", "draining"]


class Health(msgspec.Struct, kw_only=True):
    status: Status
    instance: str
    pid: int
    version: str
    uptime_s: float
    loop_lag_ms: float
    """How long a turn of the event loop takes now."""


class WorkerHealth(msgspec.Struct, kw_only=True):
    model: str
    kind: str
    state: str
    pid: int | None
    pinned: bool
    in_flight: int
    queued: int
    restarts: int
    idle_s: float
    expires_in_s: float | None
    """Until it leaves if nobody uses it; None for one that stays."""
    device: str | None
    last_success_s: float | None
    memory_bytes: int | None
    batch_tokens: int | None
    """Most of one forward pass, padding by what it costs."""
    batch_tokens_source: BudgetSource | None
    load: LoadState | None
    """Of one that is not ready yet."""
    error: str | None


class HealthDetail(Health, kw_only=True):
    in_flight: int
    queued: int
    problems: list[str]
    spare: SpareStatus | None
    """The process that waits for a chat model."""
    workers: list[WorkerHealth]


class Readiness(msgspec.Struct):
    ready: bool
    reasons: list[str]


class Alive(msgspec.Struct):
    status: Literal["ok"] = "ok"


class HealthApi:
    def __init__(self, services: Services) -> None:
        self._pool = services.pool
        self._lifecycle = services.lifecycle
        self._spare = services.spare

    async def root(self, request: Request) -> Response:
        return PlainTextResponse("mlx-serve is running\n")

    async def live(self, request: Request) -> Response:
        return json_response(Alive())

    async def ready(self, request: Request) -> Response:
        reasons = self._not_ready()
        return json_response(Readiness(not reasons, reasons), 503 if reasons else 200)

    async def health(self, request: Request) -> Response:
        lag_ms = await _loop_lag_ms()
        status = self._status()
        health = Health(
            status=status,
            instance=self._lifecycle.instance,
            pid=os.getpid(),
            version=VERSION,
            uptime_s=round(self._lifecycle.uptime_s, 3),
            loop_lag_ms=lag_ms,
        )
        return json_response(health, 503 if status == "draining" else 200)

    async def detail(self, request: Request) -> Response:
        lag_ms = await _loop_lag_ms()
        lanes = self._pool.statuses()
        detail = HealthDetail(
            status=self._status(),
            instance=self._lifecycle.instance,
            pid=os.getpid(),
            version=VERSION,
            uptime_s=round(self._lifecycle.uptime_s, 3),
            loop_lag_ms=lag_ms,
            in_flight=sum(lane.in_flight for lane in lanes),
            queued=sum(lane.queued for lane in lanes),
            problems=self._problems(),
            spare=self._spare.status(),
            workers=[_worker(lane) for lane in lanes if lane.state != "absent" or lane.error],
        )
        return json_response(detail)

    def _status(self) -> Status:
        if self._lifecycle.is_draining:
            return "draining"
        return "degraded" if self._problems() else "ok"

    def _problems(self) -> list[str]:
        missing = [f"{name}: {why}" for name, why in self._lifecycle.preload_errors.items()]
        failing = [f"{lane.model}: {lane.error}" for lane in self._pool.statuses() if lane.error]
        return missing + failing

    def _not_ready(self) -> list[str]:
        if self._lifecycle.is_draining:
            return ["the server is shutting down"]
        lanes = self._pool.statuses()
        loading = [f"{lane.model}: {lane.state}" for lane in lanes if lane.wanted]
        failed = [f"{lane.model}: {lane.error}" for lane in lanes if lane.promised and lane.error]
        missing = [f"{name}: {why}" for name, why in self._lifecycle.preload_errors.items()]
        return loading + failed + missing


async def _loop_lag_ms() -> float:
    started = monotonic()
    await asyncio.sleep(0)
    return round((monotonic() - started) * 1000, 3)


def _worker(lane: LaneStatus) -> WorkerHealth:
    return WorkerHealth(
        model=lane.model,
        kind=lane.kind,
        state=lane.state,
        pid=lane.pid,
        pinned=lane.pinned,
        in_flight=lane.in_flight,
        queued=lane.queued,
        restarts=lane.restarts,
        idle_s=round(lane.idle_s, 3),
        expires_in_s=None if math.isinf(lane.expires_in_s) else round(lane.expires_in_s, 3),
        device=lane.device,
        last_success_s=None if lane.last_success_s is None else round(lane.last_success_s, 3),
        memory_bytes=None if lane.pid is None else resident_bytes(lane.pid),
        batch_tokens=None if lane.budget is None else lane.budget.tokens,
        batch_tokens_source=None if lane.budget is None else lane.budget.source,
        load=lane.load,
        error=lane.error,
    )

"""How things are when Prometheus asks: read from the pool then, so that it cannot drift from it."""

import os
from collections.abc import Callable, Iterator

from mlx_serve_common.models import ModelKind
from mlx_serve_gateway.exposition import reading
from mlx_serve_gateway.lane_status import LaneStatus
from mlx_serve_gateway.lifecycle import Lifecycle
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.resident import resident_bytes
from mlx_serve_gateway.spare import Spare
from mlx_serve_gateway.turn_lines import TurnLines

_LOADED = {"ready", "yielding"}


class PoolMetrics:
    def __init__(self, pool: Pool, lifecycle: Lifecycle, spare: Spare, turns: TurnLines) -> None:
        self._pool = pool
        self._lifecycle = lifecycle
        self._spare = spare
        self._turns = turns

    def text(self) -> str:
        lanes = self._pool.statuses()
        return "".join([*self._server(lanes), *_lanes(lanes), *self._told(lanes)])

    def _told(self, lanes: list[LaneStatus]) -> Iterator[str]:
        """What workers have on the board on which they take turns."""
        told = [({"model": lane.model}, self._turns.told(lane.model)) for lane in lanes]
        known = [(labels, by_worker) for labels, by_worker in told if by_worker is not None]
        yield reading(
            "mlx_serve_turn_wait_seconds_total",
            "Bulk loads that waited until other models had computed",
            [(labels, by_worker.waited_s) for labels, by_worker in known],
            kind="counter",
        )
        yield reading(
            "mlx_serve_model_held_bytes",
            "Of the device's memory, caches included",
            [(labels, by_worker.memory_bytes) for labels, by_worker in known],
        )

    def _server(self, lanes: list[LaneStatus]) -> Iterator[str]:
        loaded = [lane.kind for lane in lanes if lane.state in _LOADED]
        counts = [({"type": kind.value}, loaded.count(kind)) for kind in ModelKind]
        yield reading("mlx_serve_models_loaded", "Models in memory", counts)
        memory = {
            lane.model: resident
            for lane in lanes
            if lane.pid is not None and (resident := resident_bytes(lane.pid)) is not None
        }
        spare = self._spare.status()
        own = resident_bytes(os.getpid()) or 0
        total = sum(memory.values()) + own + (spare.memory_bytes if spare else 0)
        yield _one("memory_usage_bytes", "Resident memory of server and workers", total)
        per_model = [({"model": model}, resident) for model, resident in memory.items()]
        yield reading("mlx_serve_model_memory_bytes", "Resident memory of a worker", per_model)
        yield _one("memory_budget_bytes", "What all models may take", self._pool.memory_budget)
        yield _one("requests_in_flight", "Requests being answered", self._lifecycle.in_flight)
        yield _one("uptime_seconds", "Since the server started", self._lifecycle.uptime_s)


def _lanes(lanes: list[LaneStatus]) -> Iterator[str]:
    def each(
        name: str,
        help: str,
        value: Callable[[LaneStatus], float | None],
        more: Callable[[LaneStatus], dict[str, str]] = lambda lane: {},
    ) -> str:
        found = [({"model": lane.model} | more(lane), value(lane)) for lane in lanes]
        known = [(labels, number) for labels, number in found if number is not None]
        return reading(f"mlx_serve_{name}", help, known)

    yield each("queue_depth", "Inputs waiting here", lambda lane: lane.queued)
    yield each(
        "queue_age_seconds",
        "Of the oldest request with an input waiting here",
        lambda lane: lane.queue_age_s,
    )
    yield each("in_flight", "Inputs in the worker", lambda lane: lane.in_flight)
    yield each(
        "last_success_age_seconds", "Since its last result", lambda lane: lane.last_success_s
    )
    yield each(
        "matmul_gflops",
        "Speed of a worker's products of matrices on a CPU, and what computes them",
        lambda lane: lane.matmul_gflops,
        lambda lane: {"library": lane.matmul_library or ""},
    )
    yield each(
        "batch_tokens",
        "Most tokens of one of its passes, padding by what it costs",
        lambda lane: None if lane.budget is None else lane.budget.tokens,
    )


def _one(name: str, help: str, value: float) -> str:
    return reading(f"mlx_serve_{name}", help, [({}, value)])

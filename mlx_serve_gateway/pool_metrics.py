"""How things are when Prometheus asks: read from the pool then, so that it cannot drift from it."""

import os
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mlx_serve_common.models import ModelKind
from mlx_serve_gateway.lane_status import LaneStatus
from mlx_serve_gateway.lifecycle import Lifecycle
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.resident import resident_bytes
from mlx_serve_gateway.spare import Spare
from mlx_serve_gateway.turn_lines import TurnLines

_LOADED = {"ready", "yielding"}


class PoolMetrics(Collector):
    def __init__(
        self,
        pool: Pool,
        lifecycle: Lifecycle,
        spare: Spare,
        turns: TurnLines,
    ) -> None:
        self._pool = pool
        self._lifecycle = lifecycle
        self._spare = spare
        self._turns = turns

    def collect(self) -> Iterable[Metric]:
        lanes = self._pool.statuses()
        yield from self._server(lanes)
        yield _per_model("queue_depth", "Inputs waiting here", lanes, lambda lane: lane.queued)
        yield _per_model(
            "queue_age_seconds", "Of the oldest request with an input waiting here", lanes,
            lambda lane: lane.queue_age_s,
        )  # fmt: skip
        yield _per_model("in_flight", "Inputs in the worker", lanes, lambda lane: lane.in_flight)
        yield _per_model(
            "last_success_age_seconds", "Since its last result", lanes,
            lambda lane: lane.last_success_s,
        )  # fmt: skip
        yield _per_model(
            "matmul_gflops", "Speed of a worker's products of matrices on a CPU", lanes,
            lambda lane: lane.matmul_gflops,
        )  # fmt: skip
        yield from self._told(lanes)

    def _told(self, lanes: list[LaneStatus]) -> Iterator[Metric]:
        """What workers have on the board on which they take turns."""
        waits = CounterMetricFamily(
            "mlx_serve_turn_wait_seconds",
            "Bulk loads that waited until other models had computed", labels=["model"],
        )  # fmt: skip
        held = GaugeMetricFamily(
            "mlx_serve_model_held_bytes", "Of the device's memory, caches included",
            labels=["model"],
        )  # fmt: skip
        for lane in lanes:
            if (told := self._turns.told(lane.model)) is not None:
                waits.add_metric([lane.model], told.waited_s)
                held.add_metric([lane.model], told.memory_bytes)
        yield from (waits, held)

    def _server(self, lanes: list[LaneStatus]) -> Iterator[Metric]:
        loaded = GaugeMetricFamily("mlx_serve_models_loaded", "Models in memory", labels=["type"])
        for kind in ModelKind:
            count = sum(lane.kind == kind and lane.state in _LOADED for lane in lanes)
            loaded.add_metric([kind.value], count)
        yield loaded
        found = {lane.model: resident_bytes(lane.pid) for lane in lanes if lane.pid is not None}
        memory = {model: resident for model, resident in found.items() if resident is not None}
        spare = self._spare.status()
        own = resident_bytes(os.getpid()) or 0
        total = sum(memory.values()) + own + (spare.memory_bytes if spare else 0)
        yield GaugeMetricFamily(
            "mlx_serve_memory_usage_bytes", "Resident memory of server and workers", total
        )
        per_model = GaugeMetricFamily(
            "mlx_serve_model_memory_bytes", "Resident memory of a worker", labels=["model"]
        )
        for model, resident in memory.items():
            per_model.add_metric([model], resident)
        yield per_model
        yield GaugeMetricFamily(
            "mlx_serve_memory_budget_bytes", "What all models may take", self._pool.memory_budget
        )
        yield GaugeMetricFamily(
            "mlx_serve_requests_in_flight", "Requests being answered", self._lifecycle.in_flight
        )
        yield GaugeMetricFamily(
            "mlx_serve_uptime_seconds", "Since the server started", self._lifecycle.uptime_s
        )


def _per_model(
    name: str, help: str, lanes: list[LaneStatus], value: Callable[[LaneStatus], float | None]
) -> Metric:
    family = GaugeMetricFamily(f"mlx_serve_{name}", help, labels=["model"])
    for lane in lanes:
        if (found := value(lane)) is not None:
            family.add_metric([lane.model], found)
    return family

"""What /metrics says when everything that is counted has happened once."""

import os
from pathlib import Path
from typing import cast

from mlx_serve_common.chat import Finish
from mlx_serve_common.models import InstalledModel, Manifest, ModelKind
from mlx_serve_common.turn_board import Told
from mlx_serve_common.wire import BatchBudget, Embedded
from mlx_serve_gateway.lane_status import LaneStatus
from mlx_serve_gateway.lifecycle import Lifecycle
from mlx_serve_gateway.metrics import Metrics
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.pool_metrics import PoolMetrics
from mlx_serve_gateway.server_events import Died, Left, Loaded
from mlx_serve_gateway.spare import Spare
from mlx_serve_gateway.turn_lines import TurnLines

KIND = ModelKind.EMBEDDING
MODEL = InstalledModel(Manifest(name="m", kind=KIND, architecture="", created_at=""), Path())


def exposition() -> str:
    metrics = Metrics()
    metrics.request("/v1/embeddings", 200, 0.1, 100)
    metrics.leased(MODEL, was_loaded=False)
    metrics.leased(MODEL, was_loaded=True)
    metrics.tell(Loaded(model="m", kind=KIND, pid=1, device="cpu", load_s=1.0, memory_bytes=1))
    metrics.tell(Left(model="m", kind=KIND, reason="evicted"))
    metrics.tell(Died(model="m", kind=KIND, reason="crashed", exit_code=1))
    metrics.waited(MODEL, 0.1)
    metrics.computed(MODEL, Embedded([1], [b""], [3], [1], 0.1))
    metrics.said(MODEL, 0.1, is_first=True)
    metrics.said(MODEL, 0.1, is_first=False)
    metrics.answered(MODEL, Finish("stop", None, 10, 4, 3, 0, 0.0, 0.0))
    metrics.ended(MODEL, 0.1)
    lifecycle = Lifecycle("me", lambda: 0.0)
    pool, spare = cast(Pool, StandInPool()), cast(Spare, StandInSpare())
    turns = cast(TurnLines, StandInLines())
    metrics.show(PoolMetrics(pool, lifecycle, spare, turns).text)
    return metrics.text()


class StandInPool:
    memory_budget = 1000

    def statuses(self) -> list[LaneStatus]:
        return [
            LaneStatus(
                model="m", installed=MODEL, kind=KIND, state="ready", pid=os.getpid(), pinned=False,
                promised=False, wanted=False, in_flight=1, queued=1, queue_age_s=1.0, leases=0,
                restarts=0, idle_s=0.0, expires_in_s=1.0, device="cpu", memory_bytes=1,
                last_success_s=1.0, error=None, matmul_gflops=100.0, matmul_library="BLIS",
                budget=BatchBudget(512, "default"),
            )
        ]  # fmt: skip


class StandInLines:
    def told(self, model: str) -> Told:
        return Told(0.1, 1000)


class StandInSpare:
    def status(self) -> None:
        return None

"""What operators are shown of a model that is, or should be, in memory."""

import msgspec

from mlx_serve_common.models import InstalledModel
from mlx_serve_common.wire import BatchBudget
from mlx_serve_gateway.lane import Lane
from mlx_serve_gateway.load_progress import LoadState


class LaneStatus(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    installed: InstalledModel
    kind: str
    state: str
    pid: int | None
    pinned: bool
    promised: bool
    """It was to be loaded at start."""
    wanted: bool
    """It is being loaded for that reason now."""
    in_flight: int
    queued: int
    queue_age_s: float
    """Of the oldest request that waits; 0 if none does."""
    leases: int
    restarts: int
    idle_s: float
    expires_in_s: float
    """Until it leaves if nobody uses it; infinite for one that stays."""
    device: str | None
    memory_bytes: int | None
    """What the model itself takes there, as its worker said."""
    last_success_s: float | None
    error: str | None
    matmul_gflops: float | None = None
    """How fast its worker multiplies matrices, where that is a CPU."""
    matmul_library: str | None = None
    """With which library."""
    budget: BatchBudget | None = None
    load: LoadState | None = None


def lane_status(lane: Lane, now: float) -> LaneStatus:
    since = lane.batcher.waiting_since
    return LaneStatus(
        model=lane.model.name,
        installed=lane.model,
        kind=lane.model.kind,
        state=lane.phase.value,
        pid=lane.worker.pid if lane.worker is not None else None,
        pinned=lane.is_pinned,
        promised=lane.is_promised or lane.is_pinned,
        wanted=lane.is_wanted,
        in_flight=lane.batcher.in_worker,
        queued=lane.batcher.queued,
        queue_age_s=0 if since is None else now - since,
        leases=lane.leases,
        restarts=lane.restarts,
        idle_s=now - lane.last_used,
        expires_in_s=max(0.0, lane.expires_at - (now if lane.is_idle else lane.last_used)),
        device=lane.loaded.device if lane.loaded is not None else None,
        memory_bytes=lane.loaded.memory_bytes if lane.loaded is not None else None,
        last_success_s=None if lane.last_success is None else now - lane.last_success,
        error=lane.trouble(now),
        budget=lane.budget,
        load=None if lane.load is None else lane.load.state(now),
        matmul_gflops=lane.loaded.matmul_gflops if lane.loaded is not None else None,
        matmul_library=lane.loaded.matmul_library if lane.loaded is not None else None,
    )

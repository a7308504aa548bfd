"""Pools over fake workers, small enough for a test to fill."""

from collections.abc import Callable
from pathlib import Path

from mlx_serve_common.config import ChatConfig
from mlx_serve_common.models import InstalledModel, Manifest, ModelKind
from mlx_serve_gateway.batcher import BatchLimits
from mlx_serve_gateway.eviction import Room
from mlx_serve_gateway.footprint import Footprints
from mlx_serve_gateway.lane import LaneLimits
from mlx_serve_gateway.metrics import Metrics
from mlx_serve_gateway.pool import Pool
from mlx_serve_gateway.residents import PoolSettings
from mlx_serve_gateway.server_events import Tell
from tests.unit.gateway.fake_workers import FakeWorkers

GIB = 1024**3
TTL_S = 100.0


def make_pool(
    workers: FakeWorkers,
    now: Callable[[], float],
    *,
    slots: int = 2,
    memory_gib: float = 100,
    pinned: tuple[str, ...] = (),
    batch_items: int = 4,
    ttl_s: float = TTL_S,
    tell: Tell = lambda event: None,
) -> Pool:
    settings = PoolSettings(
        room=Room(dict.fromkeys(ModelKind, slots), int(memory_gib * GIB)),
        footprints=Footprints(int(memory_gib * GIB), ChatConfig()),
        lanes=dict.fromkeys(ModelKind, LaneLimits(batch=BatchLimits(batch_items=batch_items))),
        ttl_s=ttl_s,
        pinned=frozenset(pinned),
    )
    return Pool(settings, workers.launch, now, tell, Metrics())


def model(
    name: str, kind: ModelKind = ModelKind.EMBEDDING, *, weights_gib: float = 0
) -> InstalledModel:
    manifest = Manifest(
        name=name,
        kind=kind,
        architecture="fake",
        created_at="2026-01-01T00:00:00Z",
        weights_bytes=int(weights_gib * GIB),
    )
    return InstalledModel(manifest, Path("models", name))


A, B, C = model("a"), model("b"), model("c")


def state(pool: Pool, of: InstalledModel) -> str:
    (status,) = [status for status in pool.statuses() if status.model == of.name]
    return status.state


def error(pool: Pool, of: InstalledModel) -> str | None:
    (status,) = [status for status in pool.statuses() if status.model == of.name]
    return status.error

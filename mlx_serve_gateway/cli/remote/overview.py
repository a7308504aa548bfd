"""A server at a glance, for ``top``: its models, what they hold and how fast they are. Pure."""

import msgspec

from mlx_serve_gateway.cli.gateway_client import HealthReport, LoadReport, WorkerReport
from mlx_serve_gateway.cli.remote.rates import Rates, rates, requests_per_s
from mlx_serve_gateway.cli.remote.scrape import ModelCounts, Scrape
from mlx_serve_gateway.cli.units import duration_text, size_text
from mlx_serve_gateway.cli.worker_state import state_text

COLUMNS = (
    "NAME", "STATE", "MEMORY", "RUN/WAIT", "REQ/S", "P50", "P99", "TOK/S", "BATCH", "PAD", "CUT",
)  # fmt: skip
RIGHT = "MEMORY RUN/WAIT REQ/S P50 P99 TOK/S BATCH PAD CUT"


class ModelOverview(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    state: str
    load: LoadReport | None
    """Of one that is not ready yet."""
    memory_bytes: int | None
    in_flight: int
    queued: int
    truncated: int
    """Inputs since the server started."""
    rates: Rates


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    status: str
    version: str
    uptime_s: float
    memory_bytes: int
    requests_per_s: float | None
    problems: list[str]
    models: list[ModelOverview]


def overview(report: HealthReport, before: Scrape, after: Scrape) -> Overview:
    return Overview(
        status=report.status,
        version=report.version,
        uptime_s=report.uptime_s,
        memory_bytes=int(after.memory_bytes),
        requests_per_s=requests_per_s(before, after),
        problems=report.problems,
        models=[_model(worker, before, after) for worker in report.workers or ()],
    )


def _model(worker: WorkerReport, before: Scrape, after: Scrape) -> ModelOverview:
    return ModelOverview(
        model=worker.model,
        state=worker.state,
        load=worker.load,
        memory_bytes=worker.memory_bytes,
        in_flight=worker.in_flight,
        queued=worker.queued,
        truncated=int(after.models.get(worker.model, ModelCounts()).truncated),
        rates=rates(worker.model, before, after),
    )


def headline(seen: Overview) -> str:
    return (
        f"mlx-serve {seen.version} {seen.status}, up {duration_text(seen.uptime_s)}, "
        f"{size_text(seen.memory_bytes)}, {_number(seen.requests_per_s)} requests/s"
    )


def row(seen: ModelOverview) -> tuple[str, ...]:
    found = seen.rates
    return (
        seen.model,
        state_text(seen.state.partition(" ")[0], seen.load),
        size_text(seen.memory_bytes),
        f"{seen.in_flight}/{seen.queued}",
        _number(found.requests_per_s),
        _time(found.p50_s),
        _time(found.p99_s),
        _number(found.tokens_per_s),
        _number(found.inputs_per_batch),
        "-" if found.padding is None else f"{100 * found.padding:.0f}%",
        str(seen.truncated),
    )


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 9_950:
        return f"{value / 1000:.0f}k"
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f}ms"
    return f"{seconds:.1f}s" if seconds < 99.95 else f"{seconds:.0f}s"

"""Showing servers and their workers, to people."""

from collections.abc import Sequence

from mlx_serve_gateway.cli.exit_codes import ExitCode
from mlx_serve_gateway.cli.gateway_client import HealthReport, WorkerReport, read_report
from mlx_serve_gateway.cli.instances import Instance
from mlx_serve_gateway.cli.output import emit, emit_table
from mlx_serve_gateway.cli.units import duration_text, size_text
from mlx_serve_gateway.cli.worker_state import state_text


def show_instance(seen: Instance) -> None:
    match seen.state:
        case "down":
            emit(f"not running on port {seen.port}")
        case "starting":
            emit(f"starting on port {seen.port}")
        case "unresponsive":
            emit(f"NOT RESPONDING: pid {seen.pid} at {seen.url} ({seen.problem})")
            _show_log(seen)
        case "up":
            _show_up(seen)


def exit_code(seen: Sequence[Instance]) -> ExitCode:
    """Up, down, or neither: a server that starts or hangs is no success."""
    states = {each.state for each in seen} - {"down"}
    if not states:
        return ExitCode.NOT_RUNNING
    return ExitCode.OK if states == {"up"} else ExitCode.FAILED


def show_health(report: HealthReport, url: str) -> None:
    word = {"ok": "running", "degraded": "DEGRADED", "draining": "draining"}
    emit(
        f"mlx-serve {report.version} {word.get(report.status, report.status)}, "
        f"pid {report.pid}, up {duration_text(report.uptime_s)}, {url}"
    )
    for problem in report.problems:
        emit(f"problem: {problem}")


def show_workers(workers: Sequence[WorkerReport]) -> None:
    if not workers:
        emit("no model is loaded")
        return
    emit_table(
        ("NAME", "TYPE", "STATE", "PID", "MEMORY", "INFLIGHT/QUEUED", "RESTARTS"),
        [_row(worker) for worker in workers],
        right="PID MEMORY INFLIGHT/QUEUED RESTARTS",
    )


def _show_up(seen: Instance) -> None:
    assert seen.health is not None
    report = read_report(seen.health)
    show_health(report, f"{seen.url} (bound to {seen.host})")
    _show_log(seen)
    if report.workers is not None:
        show_workers(report.workers)


def _show_log(seen: Instance) -> None:
    if seen.log is not None:
        emit(f"log: {seen.log}")


def _row(worker: WorkerReport) -> tuple[str, ...]:
    return (
        worker.model,
        worker.kind,
        state_text(worker.state, worker.load),
        "-" if worker.pid is None else str(worker.pid),
        size_text(worker.memory_bytes),
        f"{worker.in_flight}/{worker.queued}",
        str(worker.restarts),
    )

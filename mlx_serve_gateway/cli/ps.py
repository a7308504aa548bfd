"""``mlx-serve ps``: the loaded models of every server of this home."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mlx_serve_gateway.cli.gateway_client import WorkerReport
    from mlx_serve_gateway.cli.instances import Instance

COLUMNS: tuple[str, ...] = (
    "NAME", "TYPE", "STATE", "MEMORY", "PROCESSOR", "INFLIGHT/QUEUED", "UNTIL",
)  # fmt: skip
RIGHT = "MEMORY INFLIGHT/QUEUED"
_PROCESSORS = {"cpu": "CPU", "cuda": "GPU", "metal": "GPU"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ps(as_json: bool) -> int:
    """List the loaded models of all servers of this home.

    UNTIL is when a model leaves the memory if nobody uses it. The JSON is that of GET /api/ps, with
    the port of each model's server. Exit codes: 0 listed, also if there is none; 1 a server runs
    and does not answer; 3 no server runs.
    """
    from mlx_serve_common.paths import home
    from mlx_serve_gateway.cli.gateway_client import read_report
    from mlx_serve_gateway.cli.instances import instances
    from mlx_serve_gateway.cli.output import emit_json, emit_table, note
    from mlx_serve_gateway.cli.status import exit_code

    here = home()
    seen = instances(here)
    for server in seen:
        if server.state != "up":
            note(f"port {server.port}: {server.problem or server.state}")
    loaded = [
        (server.port, worker)
        for server in seen
        if server.health is not None
        for worker in read_report(server.health).workers or ()
    ]
    if as_json:
        emit_json({"models": [entry for server in seen for entry in _entries(here, server)]})
    elif loaded:
        columns = COLUMNS
        rows = [row(worker) for _, worker in loaded]
        if len(seen) > 1:
            columns = (*columns, "PORT")
            rows = [(*each, str(port)) for each, (port, _) in zip(rows, loaded, strict=True)]
        emit_table(columns, rows, right=f"{RIGHT} PORT")
    else:
        note("no model is loaded" if seen else "no server runs; `mlx-serve start` starts one")
    return exit_code(seen)


def _entries(home: Path, server: "Instance") -> list[dict[str, object]]:
    from mlx_serve_gateway.cli.gateway_client import loaded_models
    from mlx_serve_gateway.cli.gateway_connection import NoAnswer
    from mlx_serve_gateway.cli.instances import own_gateway
    from mlx_serve_gateway.cli.output import note

    gateway = own_gateway(home, server.port)
    if server.state != "up" or gateway is None:
        return []
    try:
        return [{**entry, "port": server.port} for entry in loaded_models(gateway)]
    except NoAnswer as silence:
        note(f"port {server.port}: {silence}")
        return []


def row(worker: "WorkerReport") -> tuple[str, ...]:
    from mlx_serve_gateway.cli.units import size_text
    from mlx_serve_gateway.cli.worker_state import state_text

    return (
        worker.model,
        worker.kind,
        state_text(worker.state, worker.load),
        size_text(worker.memory_bytes),
        _PROCESSORS.get(worker.device or "", worker.device or "-"),
        f"{worker.in_flight}/{worker.queued}",
        _until(worker),
    )


def _until(worker: "WorkerReport") -> str:
    from mlx_serve_gateway.cli.units import duration_text

    if worker.state != "ready":
        return "-"
    if worker.expires_in_s is None:
        return "stays"
    return f"in {duration_text(worker.expires_in_s)}"

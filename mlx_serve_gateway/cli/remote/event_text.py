"""What happened to a server, in one line for people. Pure."""

from datetime import datetime, tzinfo
from typing import Any

import msgspec

from mlx_serve_common.logs import escape
from mlx_serve_gateway.cli.units import size_text


class ToldEvent(msgspec.Struct, frozen=True):
    """An event of any kind; a gateway of another version may know others."""

    number: int
    at: datetime
    event: str
    model: str = ""
    kind: str = ""
    device: str = ""
    stage: str = ""
    done: float | None = None
    load_s: float | None = None
    memory_bytes: int | None = None
    reason: str = ""
    exit_code: int | None = None
    message: str = ""
    job: str = ""
    error: str | None = None
    applied: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


def event_text(told: ToldEvent, zone: tzinfo | None = None) -> str:
    """``2026-11-21 10:00:00  loaded       bge-small  in 0.21 s on cpu, 87 MB``; local time."""
    moment = told.at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
    word = told.event.replace("_", " ")
    parts = [moment, f"{word:<11}", told.model, _facts(told)]
    return escape("  ".join(part for part in parts if part).rstrip())


def _facts(told: ToldEvent) -> str:
    match told.event:
        case "loading":
            return told.stage if told.done is None else f"{told.stage}, {100 * told.done:.0f}%"
        case "loaded":
            size = f", {size_text(told.memory_bytes)}" if told.memory_bytes else ""
            return f"in {told.load_s or 0:.2f} s on {told.device}{size}"
        case "left":
            return told.reason
        case "died":
            code = "" if told.exit_code is None else f" (exit code {told.exit_code})"
            return f"{told.reason}{code}"
        case "refused":
            return told.message
        case "job_started":
            return told.job
        case "job_ended":
            return f"{told.job}: {told.error or 'done'}"
        case "reloaded":
            return "; ".join(_keys("applied", told.applied) + _keys("restart", told.needs_restart))
        case _:
            return ""


def _keys(what: str, keys: tuple[str, ...]) -> list[Any]:
    return [f"{what}: {', '.join(keys)}"] if keys else []

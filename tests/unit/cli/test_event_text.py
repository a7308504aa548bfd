"""What happened, in one line."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from mlx_serve_common.models import ModelKind
from mlx_serve_gateway.cli.remote.event_text import ToldEvent, event_text
from mlx_serve_gateway.server_events import (
    Died,
    Draining,
    Event,
    JobEnded,
    JobStarted,
    Left,
    Loaded,
    Loads,
    Refused,
    Reloaded,
)

OF: dict[str, Any] = {"model": "m", "kind": ModelKind.EMBEDDING}


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            Loaded(**OF, pid=1, device="cpu", load_s=0.214, memory_bytes=87_000_000),
            "loaded       m  in 0.21 s on cpu, 87 MB",
        ),
        (Loads(**OF, stage="weights", done=0.421), "loading      m  weights, 42%"),
        (Loads(**OF, stage="files", done=None), "loading      m  files"),
        (Left(**OF, reason="evicted"), "left         m  evicted"),
        (Died(**OF, reason="crashed", exit_code=-11), "died         m  crashed (exit code -11)"),
        (Died(**OF, reason="hung", exit_code=None), "died         m  hung"),
        (Refused(**OF, message="no \x1broom"), "refused      m  no \\x1broom"),
        (JobStarted(model="m", job="pull"), "job started  m  pull"),
        (JobEnded(model="m", job="pull", error=None), "job ended    m  pull: done"),
        (JobEnded(model="m", job="pull", error="no space"), "job ended    m  pull: no space"),
        (
            Reloaded(applied=("models.pin", "logging.level"), needs_restart=("server.port",)),
            "reloaded     applied: models.pin, logging.level; restart: server.port",
        ),
        (Reloaded(applied=(), needs_restart=()), "reloaded"),
        (Draining(), "draining"),
    ],
)
def test_every_event(event: Event, text: str) -> None:
    moment = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)
    line = {"number": 1, "at": moment, **msgspec.to_builtins(event)}
    told = msgspec.json.decode(msgspec.json.encode(line), type=ToldEvent)
    assert event_text(told, UTC) == f"2026-11-21 10:00:00  {text}"


def test_an_event_of_a_later_version() -> None:
    told = ToldEvent(number=1, at=datetime(2026, 1, 1, tzinfo=UTC), event="sneezed", model="m")
    assert event_text(told, UTC) == "2026-01-01 00:00:00  sneezed      m"

"""What happens to a server: told to whoever counts or watches.

Invariants: whoever listens decides nothing; an event is told after what it tells of has happened.
"""

from collections.abc import Callable

import msgspec

from mlx_serve_common.models import ModelKind


class _Event(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    kind: ModelKind


class Loads(_Event, frozen=True, kw_only=True, tag="loading", tag_field="event"):
    """It takes a while."""

    stage: str
    done: float | None


class Loaded(_Event, frozen=True, kw_only=True, tag="loaded", tag_field="event"):
    pid: int
    device: str
    load_s: float
    memory_bytes: int


class Left(_Event, frozen=True, kw_only=True, tag="left", tag_field="event"):
    """A worker that was asked to leave has left."""

    reason: str


class Died(_Event, frozen=True, kw_only=True, tag="died", tag_field="event"):
    """A worker has left by itself."""

    reason: str
    exit_code: int | None


class Refused(_Event, frozen=True, kw_only=True, tag="refused", tag_field="event"):
    """A model that was wanted is not loaded."""

    message: str


class JobStarted(msgspec.Struct, frozen=True, kw_only=True, tag="job_started", tag_field="event"):
    """A download or a conversion."""

    model: str
    job: str


class JobEnded(msgspec.Struct, frozen=True, kw_only=True, tag="job_ended", tag_field="event"):
    model: str
    job: str
    error: str | None


class Reloaded(msgspec.Struct, frozen=True, kw_only=True, tag="reloaded", tag_field="event"):
    """The configuration was read again."""

    applied: tuple[str, ...]
    needs_restart: tuple[str, ...]


class Draining(msgspec.Struct, frozen=True, tag="draining", tag_field="event"):
    """The server is about to end."""


Event = Loads | Loaded | Left | Died | Refused | JobStarted | JobEnded | Reloaded | Draining

Tell = Callable[[Event], None]

"""What the pool tells whoever counts or watches: events, which are rare, and measurements.

Invariants: whoever listens decides nothing; an event is told after what it tells of has happened.
"""

from typing import Protocol

import msgspec

from mlx_serve_common.chat import Finish
from mlx_serve_common.models import InstalledModel, ModelKind
from mlx_serve_common.wire import Result


class _Event(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    kind: ModelKind


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


Event = Loaded | Left | Died | Refused


class Telemetry(Protocol):
    """Listens to the pool and its lanes."""

    def tell(self, event: Event) -> None: ...

    def leased(self, model: InstalledModel, *, was_loaded: bool) -> None:
        """A request wants the model."""

    def waited(self, model: InstalledModel, seconds: float) -> None:
        """A request has waited so long until its first item was given to the worker."""

    def computed(self, model: InstalledModel, result: Result) -> None:
        """One micro-batch."""

    def said(self, model: InstalledModel, seconds: float, *, is_first: bool) -> None:
        """A piece of an answer came so long after the request, or after the piece before it."""

    def answered(self, model: InstalledModel, finish: Finish) -> None:
        """An answer that was generated is complete."""


class Silent:
    """Nobody listens."""

    def tell(self, event: Event) -> None:
        pass

    def leased(self, model: InstalledModel, *, was_loaded: bool) -> None:
        pass

    def waited(self, model: InstalledModel, seconds: float) -> None:
        pass

    def computed(self, model: InstalledModel, result: Result) -> None:
        pass

    def said(self, model: InstalledModel, seconds: float, *, is_first: bool) -> None:
        pass

    def answered(self, model: InstalledModel, finish: Finish) -> None:
        pass

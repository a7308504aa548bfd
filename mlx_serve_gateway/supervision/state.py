"""How a supervisor sees the service."""

from typing import Literal

import msgspec

Activity = Literal["running", "starting", "stopping", "failed", "stopped"]


class State(msgspec.Struct, frozen=True, kw_only=True):
    supervisor: Literal["launchd", "systemd"]
    definition: str | None
    """Its file; None when the service is not installed."""
    enabled: bool
    """It starts by itself: at login, or for one of the machine at boot."""
    activity: Activity
    pid: int | None = None
    detail: str | None = None

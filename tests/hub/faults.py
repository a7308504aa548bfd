"""What can be wrong with one answer of the hub."""

import threading
from dataclasses import dataclass, field


@dataclass
class Fault:
    """Of the first ``times`` answers, or of all."""

    times: int | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    drop_after: int | None = None
    """Close the connection after so many bytes of the body."""
    stall_after: int | None = None
    """Send nothing more after so many bytes of the body, unless ``go_on`` is set one day."""
    go_on: threading.Event | None = None
    body: bytes | None = None
    """Instead of what was asked for; without a status that is a success."""
    content_type: str = "application/octet-stream"
    wrong_bytes: bool = False
    """As many as there should be."""
    ignores_range: bool = False
    without_length: bool = False
    redirect: str | None = None
    bytes_per_s: float | None = None

    def take(self) -> bool:
        """Whether it strikes this time."""
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


LOGIN_PAGE = b"<html><body>Welcome to the airport. Please sign in.</body></html>"


def captive_portal() -> Fault:
    return Fault(body=LOGIN_PAGE, content_type="text/html")


def wrong_bytes(content: bytes) -> bytes:
    return bytes(byte ^ 0x20 for byte in content[:64]) + content[64:]

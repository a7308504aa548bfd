"""Remembers inputs that killed a worker while alone in it, and refuses them for a while.

Invariants: bounded in number; an entry is forgotten ten minutes after it was made.
"""

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.calls import Call

KEPT_S = 600.0
MOST = 1024


class Quarantine:
    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}

    def add(self, fingerprint: bytes, now: float) -> None:
        while len(self._until) >= MOST:
            del self._until[next(iter(self._until))]
        self._until[fingerprint] = now + KEPT_S

    def check(self, call: Call, now: float) -> None:
        if not self._until:
            return
        self._until = {known: until for known, until in self._until.items() if until > now}
        for index in range(call.size):
            if call.fingerprint(index) in self._until:
                raise ServeError(
                    ErrorCode.REQUEST_QUARANTINED,
                    f"input {index} has crashed the model's process and is refused for a while",
                    param="input",
                )

"""Remembers inputs that killed a worker, and refuses them for a while.

One that was alone in the worker killed it; one that was not is a suspect, until it is there again
when a worker dies.

Invariants: bounded in number; an entry is forgotten ten minutes after it was made.
"""

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_gateway.calls import Call

KEPT_S = 600.0
MOST = 1024


class Quarantine:
    def __init__(self) -> None:
        self._refused: dict[bytes, float] = {}
        self._suspects: dict[bytes, float] = {}

    def add(self, fingerprint: bytes, now: float) -> None:
        _remember(self._refused, fingerprint, now)

    def suspect(self, fingerprint: bytes, now: float) -> None:
        self._suspects = _lasting(self._suspects, now)
        if self._suspects.pop(fingerprint, None) is not None:
            self.add(fingerprint, now)
        else:
            _remember(self._suspects, fingerprint, now)

    def check(self, call: Call, now: float) -> None:
        if not self._refused:
            return
        self._refused = _lasting(self._refused, now)
        for index in range(call.size):
            if call.fingerprint(index) in self._refused:
                raise ServeError(
                    ErrorCode.REQUEST_QUARANTINED,
                    f"input {index} has crashed the model's process and is refused for a while",
                    param="input",
                )


def _remember(entries: dict[bytes, float], fingerprint: bytes, now: float) -> None:
    while len(entries) >= MOST:
        del entries[next(iter(entries))]
    entries[fingerprint] = now + KEPT_S


def _lasting(entries: dict[bytes, float], now: float) -> dict[bytes, float]:
    return {known: until for known, until in entries.items() if until > now}

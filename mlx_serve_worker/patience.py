"""How long a download puts up with a network that fails.

Invariants: every wait is bounded; a download that has received next to nothing and waited for
``stall_s`` ends with an error, in however many connections that was.
"""

from collections.abc import Callable
from random import uniform
from time import monotonic, sleep

import msgspec

from mlx_serve_common.errors import ErrorCode, ServeError

# What has to arrive before earlier failures are forgotten.
_FORGIVEN_BYTES = 1024**2
_IMPRECISION_S = 0.001


class Trouble(Exception):
    """A failure that may pass: worth another attempt."""

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, is_unreachable: bool = False
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.is_unreachable = is_unreachable


class Unreachable(ServeError):
    """The hub could not be asked at all."""


class WrongAnswer(Exception):
    """Something that cannot be the file, or the listing, that was asked for."""


class Patience(msgspec.Struct, frozen=True):
    stall_s: float = 60.0
    connect_s: float = 5.0
    delays_s: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 15.0)
    longest_wait_s: float = 120.0
    """The most that a hub may ask for (Retry-After)."""

    @property
    def read_s(self) -> float:
        """A connection that went dead without a word is given up while there is time for others."""
        return self.stall_s / 3


class Attempts:
    """At one thing, such as a file."""

    def __init__(
        self,
        patience: Patience,
        clock: Callable[[], float] = monotonic,
        wait: Callable[[float], None] = sleep,
    ) -> None:
        self._patience = patience
        self._clock = clock
        self._wait = wait
        self._failures = 0
        self._received = 0
        self._dead_s = 0.0
        self._has_connected = False
        self._moved_at = clock()

    def progressed(self, received_bytes: int) -> None:
        self._moved_at = self._clock()
        self._has_connected = True
        self._received += received_bytes
        if self._received >= _FORGIVEN_BYTES:
            self._received = self._failures = 0
            self._dead_s = 0.0

    def failed(self, trouble: Trouble) -> None:
        """Wait as long as there is reason to, or raise what the person is told."""
        delays = self._patience.delays_s
        if trouble.is_unreachable and not self._has_connected:
            # Most likely there is no network at all.
            delays = delays[:1]
        self._dead_s += self._clock() - self._moved_at
        is_stalled = self._dead_s >= self._patience.stall_s - _IMPRECISION_S
        if self._failures >= len(delays) or is_stalled:
            raise _given_up(trouble)
        if (asked_s := trouble.retry_after_s) is None:
            self._wait(delays[self._failures] * uniform(0.8, 1.2))
        elif asked_s > self._patience.longest_wait_s:
            raise _given_up(trouble, f"; it asks to come back in {asked_s:.0f} s")
        else:
            self._wait(asked_s)
        self._moved_at = self._clock()
        self._failures += 1
        self._received = 0


def _given_up(trouble: Trouble, more: str = "") -> ServeError:
    kind = Unreachable if trouble.is_unreachable else ServeError
    return kind(
        ErrorCode.UPSTREAM_ERROR, trouble.message + more, retry_after_s=trouble.retry_after_s
    )

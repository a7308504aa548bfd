"""Being interrupted while a child process runs, without ever losing the child.

Invariants: from the start of the block to its end, Ctrl-C, a termination and a closed terminal all
raise KeyboardInterrupt, once, and not before the block is ready to end its child.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruption() -> Iterator[Callable[[], None]]:
    """Yields what to call once the child can be ended: what came before is raised by that call."""
    is_allowed = False
    is_pending = False

    def on_signal(_signum: int, _frame: FrameType | None) -> None:
        nonlocal is_pending, is_allowed
        if is_allowed:
            is_allowed = False
            raise KeyboardInterrupt
        is_pending = True

    def allow() -> None:
        nonlocal is_allowed
        is_allowed = True
        if is_pending:
            is_allowed = False
            raise KeyboardInterrupt

    # Under nohup a closed terminal is ignored, and stays so.
    heeded = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    before = {signum: signal.signal(signum, on_signal) for signum in heeded}
    try:
        yield allow
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)

"""Faults of our own that no request can answer for: they end the process, workers and all.

An error in a callback leaves the books of the pool wrong, and a loop that stands still serves
nobody: a port that stays open over either looks healthy from outside. Whoever runs the server
starts it again.

Invariants: only callbacks of this package count, not those of a library on behalf of a client. The
watch counts questions that got no answer, not seconds, so a machine that was asleep is not taken
for a loop that stands still.
"""

import asyncio
import logging
import os
import sys
import threading
import traceback
from time import sleep
from typing import Any

EXIT_FAULT = 70

_PACKAGE = __name__.partition(".")[0]

log = logging.getLogger(__name__)


def end_on_faults(loop: asyncio.AbstractEventLoop) -> None:
    loop.set_exception_handler(_on_exception)
    Watch(loop).start()


def _on_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    loop.default_exception_handler(context)
    error = context.get("exception")
    # A task's error has an owner; only a callback's ends here.
    if error is not None and "handle" in context and _is_ours(error):
        _end("the server has failed in a callback")


def _is_ours(error: BaseException) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    return any(str(f.f_globals.get("__name__")).startswith(_PACKAGE) for f, _ in frames)


class Watch(threading.Thread):
    """Asks the loop again and again to answer, and ends the process when it does not."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, every_s: float = 5.0, patience: int = 12
    ) -> None:
        super().__init__(name="watch", daemon=True)
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._every_s = every_s
        self._patience = patience
        self._answered = threading.Event()

    def run(self) -> None:
        unanswered = 0
        while unanswered < self._patience:
            self._answered.clear()
            try:
                self._loop.call_soon_threadsafe(self._answered.set)
            except RuntimeError:  # it is closed: the server has ended
                return
            sleep(self._every_s)
            unanswered = 0 if self._answered.is_set() else unanswered + 1
        frame = sys._current_frames().get(self._loop_thread)
        where = "".join(traceback.format_stack(frame)) if frame else ""
        _end(f"the event loop stands still:\n{where}")


def _end(why: str) -> None:
    log.critical(why)
    os._exit(EXIT_FAULT)

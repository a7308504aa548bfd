"""Kills the workers if the gateway is gone, whatever the workers are doing.

A shell that reads the pids of our children from a pipe. When the pipe ends, the gateway has died
without a word and every pid still on the list is killed, with all that it has started: this works
where a worker cannot help itself (C code that holds the GIL, a stopped process) and on systems
without a parent-death signal.

Invariants: a pid is taken off the list before it is reaped, so no stranger's process can have it.
A sentinel that dies is replaced.
"""

import asyncio
import logging
import os
from contextlib import suppress

from mlx_serve_gateway.child import Child

log = logging.getLogger(__name__)

_RETRY_S = 5.0

_SCRIPT = """
trap '' HUP INT TERM
pids=
while read -r op pid; do
  if [ "$op" = + ]; then
    pids="$pids -$pid"
  else
    left=
    for known in $pids; do [ "$known" = "-$pid" ] || left="$left $known"; done
    pids=$left
  fi
done
[ -z "$pids" ] || kill -9 $pids
"""


class Sentinel:
    def __init__(self) -> None:
        self._pids: set[int] = set()
        self._pipe: int | None = None
        self._child: Child | None = None

    def start(self) -> None:
        read_end, write_end = os.pipe()
        try:
            with open(os.devnull, "wb") as nowhere:
                self._child = Child(
                    ["/bin/sh", "-c", _SCRIPT],
                    {"PATH": "/usr/bin:/bin"},
                    {0: read_end, 1: nowhere.fileno(), 2: nowhere.fileno()},
                )
        except OSError:
            os.close(write_end)
            raise
        finally:
            os.close(read_end)
        self._pipe = write_end
        self._child.exited.add_done_callback(lambda _: self._on_exit())
        for pid in self._pids:
            self._tell("+", pid)

    def watch(self, pid: int) -> None:
        self._pids.add(pid)
        self._tell("+", pid)

    def forget(self, pid: int) -> None:
        self._pids.discard(pid)
        self._tell("-", pid)

    async def stop(self) -> None:
        if self._child is None:
            return
        child, self._child = self._child, None
        self._close_pipe()
        child.kill()
        await child.exited

    def _on_exit(self) -> None:
        if self._child is not None:
            log.warning("the sentinel process ended; starting another")
            self._close_pipe()
            self._start_again()

    def _start_again(self) -> None:
        if self._child is None:
            return
        try:
            self.start()
        except OSError as error:
            log.error("the sentinel process cannot be started: %s", error)
            asyncio.get_running_loop().call_later(_RETRY_S, self._start_again)

    def _tell(self, op: str, pid: int) -> None:
        if self._pipe is not None:
            with suppress(OSError):  # it has just died: its successor gets the whole list
                os.write(self._pipe, f"{op} {pid}\n".encode())

    def _close_pipe(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

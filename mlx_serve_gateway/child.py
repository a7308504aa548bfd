"""A child process: started without fork, watched without polling, reaped by its owner.

Invariants: ``exited`` is resolved once, after the child was reaped; until then its pid is ours and
cannot belong to anybody else, so a kill never hits a stranger. It leads a process group, and what
it has started there ends with it. Started only from the main thread: Linux ties a child's death
signal to the thread that started it.
"""

import asyncio
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress


class Child:
    """A running process. ``fds`` maps the child's descriptors to ours."""

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        fds: Mapping[int, int],
        *,
        before_reap: Callable[[int], None] = lambda pid: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._before_reap = before_reap
        self.exited: asyncio.Future[int] = self._loop.create_future()
        """The exit code, or minus the number of the signal that ended it."""
        # posix_spawn, not fork: a forked copy of a process that has touched Apple's frameworks
        # cannot use Metal.
        self.pid = os.posix_spawn(
            argv[0],
            list(argv),
            dict(env),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                *((os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in fds.items()),
            ],
            setpgroup=0,
        )
        try:
            _when_exited(self._loop, self.pid, self._reap)
        except Exception:
            # No descriptor left to watch it with: nobody would ever reap it.
            self._kill_group()
            os.waitpid(self.pid, 0)
            raise

    @property
    def is_running(self) -> bool:
        return not self.exited.done()

    def terminate(self) -> None:
        if self.is_running:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        if self.is_running:
            self._kill_group()

    def _kill_group(self) -> None:
        # Of a group in which all have died, macOS says that we may not.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _reap(self) -> None:
        self._kill_group()
        self._before_reap(self.pid)
        _, status = os.waitpid(self.pid, 0)
        if not self.exited.done():
            self.exited.set_result(os.waitstatus_to_exitcode(status))


def _when_exited(loop: asyncio.AbstractEventLoop, pid: int, reap: Callable[[], None]) -> None:
    """Call ``reap`` on the loop when the process has ended; it stays a zombie until reaped."""
    if sys.platform == "linux":
        fd = os.pidfd_open(pid)

        def on_exit() -> None:
            loop.remove_reader(fd)
            os.close(fd)
            reap()

        loop.add_reader(fd, on_exit)
    else:
        # Made here: its failure, for want of a descriptor, has to be the caller's.
        queue = select.kqueue()
        threading.Thread(target=_await_exit, args=(loop, queue, pid, reap), daemon=True).start()


if sys.platform != "linux":

    def _await_exit(
        loop: asyncio.AbstractEventLoop,
        queue: select.kqueue,
        pid: int,
        reap: Callable[[], None],
    ) -> None:
        event = select.kevent(
            pid,
            filter=select.KQ_FILTER_PROC,
            flags=select.KQ_EV_ADD | select.KQ_EV_ONESHOT,
            fflags=select.KQ_NOTE_EXIT,
        )
        try:
            queue.control([event], 1, None)
        except ProcessLookupError:
            pass  # it had ended before we could watch it
        finally:
            queue.close()
        with suppress(RuntimeError):  # the server has ended, and nobody reaps any more
            loop.call_soon_threadsafe(reap)

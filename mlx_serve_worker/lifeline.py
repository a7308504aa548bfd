"""A worker must not outlive its gateway, whatever it is doing.

The gateway holds the other end of a pipe: it sends a secret and its orders through it and then
nothing more, so the end of the stream means that the gateway is gone. On Linux the kernel also
kills the worker when its parent dies: a thread cannot run while C code holds the GIL. Elsewhere the
gateway's sentinel process does that part. A job, which may be left in peace to put its files in
order, ends when nobody hears its events any more.
"""

import ctypes
import os
import select
import signal
import sys
import threading

from mlx_serve_common.wire import TOKEN_BYTES

LIFELINE_FD = 3
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with_listener(descriptor: int) -> None:
    """Have this process told to end when nobody is left to read what it writes to that pipe.

    Where the system does not tell of that, the next write still fails.
    """
    pipe = select.poll()
    pipe.register(descriptor, 0)  # an error is told whatever is asked for

    def wait() -> None:
        if any(state & select.POLLERR for _, state in pipe.poll()):
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="listener", daemon=True).start()


def ignore_group_signals() -> None:
    # Ctrl-C, a closed terminal or `kill %1` reach the whole process group. Only the gateway
    # decides when a worker stops, and it lets the worker answer first.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def receive_orders() -> tuple[bytes, bytes]:
    """The secret and what the gateway has the worker do; the pipe is watched from then on."""
    secret = _receive(TOKEN_BYTES)
    orders = _receive(int.from_bytes(_receive(4), "big"))
    threading.Thread(target=_exit_with_gateway, name="lifeline", daemon=True).start()
    return secret, orders


def _receive(size: int) -> bytes:
    received = b""
    while len(received) < size:
        more = os.read(LIFELINE_FD, size - len(received))
        if not more:
            os._exit(1)
        received += more
    return received


def _exit_with_gateway() -> None:
    while os.read(LIFELINE_FD, 1):
        pass
    os._exit(1)

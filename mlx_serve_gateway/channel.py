"""The socket to one worker incarnation.

Invariants: a fresh random path each time, never reused, so nothing that was meant for a dead worker
can reach its successor; only frames that open with the worker's secret are looked at.

Uses the socket's descriptor directly: sending must be possible from a plain callback, and a task
per receive can lose messages when it is cancelled.
"""

import asyncio
import hmac
import logging
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import zmq

from mlx_serve_common.paths import private_directory
from mlx_serve_common.wire import MAX_MESSAGE_BYTES, TOKEN_BYTES

log = logging.getLogger(__name__)

_HIGH_WATER_MARK = 64


class Channel:
    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        run_dir: Path,
        on_frame: Callable[[memoryview], None],
    ) -> None:
        # Systems sweep /tmp, where the folder may be, while the server runs.
        self.path = private_directory(run_dir) / f"w-{secrets.token_hex(8)}.sock"
        self.token = secrets.token_bytes(TOKEN_BYTES)
        self._on_frame = on_frame
        self._loop = asyncio.get_running_loop()
        try:
            self._socket = _bound(context, self.path)
        except zmq.ZMQError as error:
            raise OSError(error.errno, f"no worker socket: {error.strerror}") from None
        self._fd = int(self._socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._fd, self._on_readable)

    def send(self, frame: bytes) -> bool:
        """False when the worker cannot take it: it is gone, or does not read."""
        try:
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._look_again()
        return True

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        self._socket.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)

    def _on_readable(self) -> None:
        while not self._socket.closed and self._has_frames():
            frames = [self._socket.recv(zmq.NOBLOCK, copy=False)]
            while frames[-1].more:
                frames.append(self._socket.recv(zmq.NOBLOCK, copy=False))
            if len(frames) == 2 and hmac.compare_digest(frames[0].bytes, self.token):
                self._on_frame(frames[1].buffer)
            else:
                log.warning("a frame without the worker's secret was dropped")

    def _look_again(self) -> None:
        # The descriptor signals an edge, and a send may have consumed it.
        if self._has_frames():
            self._loop.call_soon(self._on_readable)

    def _has_frames(self) -> bool:
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


def _bound(context: zmq.Context[zmq.Socket[bytes]], path: Path) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, _HIGH_WATER_MARK)
    socket.setsockopt(zmq.RCVHWM, _HIGH_WATER_MARK)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    try:
        socket.bind(f"ipc://{path}")
    except zmq.ZMQError:
        socket.close()
        raise
    return socket

"""A worker's life: load, announce, compute what arrives, leave when drained.

The main thread owns the socket and never computes. The compute thread loads the model and is the
only one that computes with it (MLX arrays belong to the thread that made them). The texts thread
tokenizes meanwhile what is computed next.

Invariants: whatever ends one of these threads ends the process: with code 0 only after ``Drain``
and with nothing left to answer; otherwise with a message and a code of its own.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable

import zmq

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.launch import LaunchSpec
from mlx_serve_common.turn_board import BOARD_FD, TurnBoard
from mlx_serve_common.wire import (
    MAX_MESSAGE_BYTES,
    PROTOCOL,
    Batch,
    Cancel,
    Drain,
    Fatal,
    FromWorker,
    Progress,
    Ready,
    Result,
    decode_to_worker,
    encode,
    settled,
)
from mlx_serve_worker import load_progress
from mlx_serve_worker.backend import Backend, Generator
from mlx_serve_worker.calibration import budget_for
from mlx_serve_worker.compute import Compute
from mlx_serve_worker.failure_log import log_failure
from mlx_serve_worker.generation import Generation
from mlx_serve_worker.held_items import HeldItems
from mlx_serve_worker.lease import Lease
from mlx_serve_worker.preparation import Inputs, Preparation
from mlx_serve_worker.urgent_first import UrgentFirst

EXIT_DRAINED = 0
EXIT_UNLOADABLE = 65
EXIT_FAULT = 70

_FLUSH_MS = 2000


class Loop:
    def __init__(
        self, spec: LaunchSpec, token: bytes, make_backend: Callable[[], Backend | Generator]
    ) -> None:
        self._spec = spec
        self._token = token
        self._make_backend = make_backend
        self._batches: UrgentFirst[Batch] = UrgentFirst()
        self._held = HeldItems()
        self._outbox: deque[FromWorker] = deque()
        self._exit_code: int | None = None
        # Nobody else may touch the socket; the others wake the main thread through this pipe.
        self._wake_read, self._wake_write = os.pipe()

    def run(self) -> int:
        context = zmq.Context(io_threads=1)
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        socket.setsockopt(zmq.LINGER, _FLUSH_MS)
        socket.connect(f"ipc://{self._spec.socket}")
        self._start_thread("compute", self._load_and_compute)
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(self._wake_read, zmq.POLLIN)
        while not (self._exit_code is not None and not self._outbox):
            for ready, _ in poller.poll():
                if ready == self._wake_read:
                    os.read(self._wake_read, 4096)
                else:
                    self._on_message(socket.recv())
            self._flush(socket)
        socket.close()
        context.term()
        return self._exit_code

    def _on_message(self, frame: bytes) -> None:
        match decode_to_worker(frame):
            case Batch() as batch:
                self._held.add(id for part in batch.parts for id in part.ids)
                self._batches.put(batch)
            case Cancel(ids):
                self._held.cancel(ids)
            case Drain():
                self._batches.close()

    def _flush(self, socket: zmq.Socket[bytes]) -> None:
        while self._outbox:
            socket.send_multipart([self._token, encode(self._outbox.popleft())])

    # --- the other threads -----------------------------------------------------------------------

    def _start_thread(self, name: str, work: Callable[[], int | None]) -> None:
        """The process ends with what ``work`` gives, if that is a code, or when it fails."""

        def watched() -> None:
            exit_code: int | None = EXIT_FAULT
            try:
                exit_code = work()
            except ServeError as error:
                exit_code = EXIT_UNLOADABLE
                self._outbox.append(Fatal(error.code, error.message))
            except BaseException:  # also pyo3's PanicException: a thread that died must be seen
                log_failure(f"the {name} thread died")
                message = "the model's process failed; its log has the reason"
                self._outbox.append(Fatal(ErrorCode.WORKER_CRASHED, message))
            finally:
                if exit_code is not None:
                    self._exit_code = exit_code
                    self._wake()

        threading.Thread(target=watched, name=name, daemon=True).start()

    def _load_and_compute(self) -> int:
        started = time.perf_counter()
        with load_progress.listening(self._post):
            load_progress.tell("libraries")
            backend = self._make_backend()
            load_progress.tell("files")
            backend.load()
        self._post(
            Ready(
                protocol=PROTOCOL,
                pid=os.getpid(),
                device=backend.device,
                load_s=time.perf_counter() - started,
                memory_bytes=backend.memory_bytes(),
                matmul_gflops=backend.matmul_gflops,
                matmul_library=backend.matmul_library,
            )
        )
        ready: UrgentFirst[Inputs] = UrgentFirst()
        work = self._work(backend, self._lease(backend))
        preparation = Preparation(backend, emit=self._answer, is_cancelled=self._held.is_cancelled)
        self._start_thread("texts", lambda: preparation.run(self._batches, ready))
        work.run(ready)
        return EXIT_DRAINED

    def _work(self, backend: Backend | Generator, lease: Lease) -> Compute | Generation:
        is_cancelled = self._held.is_cancelled
        if isinstance(backend, Generator):
            return Generation(backend, emit=self._answer, is_cancelled=is_cancelled, lease=lease)
        budget = budget_for(self._spec, backend, self._post)
        return Compute(
            backend,
            max_items=self._spec.max_batch_items,
            max_tokens=budget.tokens,
            calibration=budget.calibration,
            emit=self._answer,
            is_cancelled=is_cancelled,
            lease=lease,
        )

    def _lease(self, backend: Backend | Generator) -> Lease:
        turns = self._spec.turns
        if turns is None or turns.line is None:
            return Lease.alone()
        return Lease(
            TurnBoard(BOARD_FD),
            turns.line,
            places=turns.workers or backend.computing_workers,
            patience_s=turns.patience_s,
            memory_bytes=backend.memory_bytes,
        )

    def _answer(self, message: Result | Progress) -> None:
        self._held.settle(settled(message))
        self._post(message)

    def _post(self, message: FromWorker) -> None:
        self._outbox.append(message)
        self._wake()

    def _wake(self) -> None:
        os.write(self._wake_write, b"\0")

"""The work of a chat model's compute thread: answers join and leave the running batch at each step.

Invariants: every item id is settled exactly once; who has left is out of the batch before the next
step; a step that fails ends the answers that were running, not the process; nothing here knows
threads or sockets.
"""

from collections.abc import Callable
from time import monotonic

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Generated, Prefilled, Progress, Rejected, Result, settled
from mlx_serve_worker.backend import Generator, Step
from mlx_serve_worker.failure_log import log_failure
from mlx_serve_worker.lease import Lease
from mlx_serve_worker.preparation import Inputs, callers_left
from mlx_serve_worker.spare_memory import SpareMemory
from mlx_serve_worker.urgent_first import UrgentFirst


class Generation:
    def __init__(
        self,
        backend: Generator,
        *,
        emit: Callable[[Result | Progress], None],
        is_cancelled: Callable[[int], bool],
        lease: Lease | None = None,
    ) -> None:
        self._backend = backend
        self._emit = emit
        self._is_cancelled = is_cancelled
        self._lease = lease or Lease.alone()
        self._spare_memory = SpareMemory(backend.give_back_memory)
        self._running: set[int] = set()

    def run(self, ready: UrgentFirst[Inputs]) -> None:
        """Until nothing is left to come and every answer is given."""
        while True:
            was_idle = self._backend.is_idle
            if was_idle:
                self._lease.give_back()
                self._spare_memory.rest(ready)
            while (inputs := ready.take(wait=self._backend.is_idle)) is not None:
                self._begin(inputs)
            if self._backend.is_idle:
                return
            if was_idle:
                self._await_company(ready)
            self._stop_cancelled()
            if not self._backend.is_idle:
                self._step()
                self._spare_memory.worked()

    def _await_company(self, ready: UrgentFirst[Inputs]) -> None:
        try:
            patience_s = self._backend.patience_s()
        except Exception:
            self._give_up()
            return
        until = monotonic() + patience_s
        while (left := until - monotonic()) > 0 and not ready.stays_idle(left):
            if (inputs := ready.take(wait=False)) is None:
                return
            self._begin(inputs)

    def _begin(self, inputs: Inputs) -> None:
        for id, prepared in inputs.items:
            try:
                self._backend.start(id, prepared)
            except ServeError as error:
                self._emit(Rejected.because([id], error))
            except Exception:
                log_failure("an answer could not be begun")
                message = "the model failed before it could answer"
                self._emit(Rejected([id], ErrorCode.INFERENCE_FAILED, message))
            else:
                self._running.add(id)

    def _stop_cancelled(self) -> None:
        gone = sorted(id for id in self._running if self._is_cancelled(id))
        if gone:
            self._end(callers_left(gone))

    def _step(self) -> None:
        # Somebody waits for each word, however long the prompt was; so it is not given back until
        # all has been said, or a bulk load would begin in the moment between two steps.
        self._lease.hurry()
        try:
            step = self._backend.step()
        except Exception:
            self._give_up()
            return
        self._tell(step)

    def _give_up(self) -> None:
        log_failure(f"a step over {len(self._running)} answers failed")
        message = "the model failed while it was answering"
        self._end(Rejected(sorted(self._running), ErrorCode.INFERENCE_FAILED, message))

    def _tell(self, step: Step) -> None:
        if step.read:
            ids, done, total = zip(*step.read, strict=True)
            self._emit(Prefilled(list(ids), list(done), list(total)))
        if step.said:
            said = Generated([id for id, _ in step.said], [delta for _, delta in step.said])
            self._running.difference_update(settled(said))
            self._emit(said)
        for id, error in step.failed:
            self._running.discard(id)
            self._emit(Rejected.because([id], error))

    def _end(self, rejected: Rejected) -> None:
        self._backend.stop(rejected.ids)
        self._running.difference_update(rejected.ids)
        self._emit(rejected)

"""The work of the compute thread: inputs in, results out, one micro-batch at a time.

Invariants: every input is answered exactly once; whoever is in a hurry waits for one micro-batch at
most; an input that fails is computed again alone before it is rejected, so that only the guilty one
is; nothing here knows threads or sockets.
"""

import time
from collections.abc import Callable

from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.wire import Embedded, Rejected, Result, Scored
from mlx_serve_worker.backend import Backend, Output, Score
from mlx_serve_worker.calibration import IDLE_S, Calibration
from mlx_serve_worker.failure_log import log_failure
from mlx_serve_worker.lease import Lease
from mlx_serve_worker.planner import plan
from mlx_serve_worker.preparation import Inputs, Item, callers_left
from mlx_serve_worker.spare_memory import SpareMemory
from mlx_serve_worker.urgent_first import UrgentFirst


class Compute:
    def __init__(
        self,
        backend: Backend,
        *,
        max_items: int,
        max_tokens: int | None,
        emit: Callable[[Result], None],
        is_cancelled: Callable[[int], bool],
        lease: Lease | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self._backend = backend
        self._max_items = max_items
        self._max_tokens = max_tokens or backend.batch_tokens
        self._emit = emit
        self._is_cancelled = is_cancelled
        self._lease = lease or Lease.alone()
        self._calibration = calibration
        self._spare_memory = SpareMemory(backend.give_back_memory)

    def run(self, ready: UrgentFirst[Inputs]) -> None:
        """Until nothing is left to come."""
        while (inputs := self._next(ready)) is not None:
            for group in self._micro_batches(inputs):
                # One each in turn, so that neither waits for all of the other.
                if (urgent := ready.take_urgent()) is not None:
                    self._answer_at_once(urgent)
                if inputs.urgent:
                    self._lease.hurry()
                else:
                    self._take_turn(ready)
                self._run_group(group)
                self._lease.give_back()
                self._spare_memory.worked()

    def _next(self, ready: UrgentFirst[Inputs]) -> Inputs | None:
        calibration = self._calibration
        while calibration is not None and calibration.is_due and ready.stays_idle(IDLE_S):
            found = calibration.measure(self._lease, ready.has_news)
            self._max_tokens = found or self._max_tokens
        self._spare_memory.rest(ready)
        return ready.take()

    def answer(self, inputs: Inputs) -> None:
        for group in self._micro_batches(inputs):
            self._run_group(group)

    def _answer_at_once(self, inputs: Inputs) -> None:
        self._lease.hurry()
        self.answer(inputs)
        self._lease.give_back()

    def _take_turn(self, ready: UrgentFirst[Inputs]) -> None:
        turn = self._lease.ask()
        while not self._lease.take(turn, give_way=ready.has_urgent):
            if (urgent := ready.take_urgent()) is not None:
                self._answer_at_once(urgent)

    def _micro_batches(self, inputs: Inputs) -> list[list[Item]]:
        groups = plan(
            [item.prepared.length for item in inputs.items],
            max_items=self._max_items,
            max_tokens=self._max_tokens,
            padding_cost=self._backend.padding_cost,
        )
        return [[inputs.items[position] for position in group] for group in groups]

    # --- forward passes --------------------------------------------------------------------------

    def _run_group(self, group: list[Item]) -> None:
        if gone := [item.id for item in group if self._is_cancelled(item.id)]:
            self._emit(callers_left(gone))
            group = [item for item in group if item.id not in gone]
        if not group:
            return
        started = time.perf_counter()
        try:
            outputs = self._backend.forward([item.prepared for item in group])
        except Exception:
            self._on_failure(group)
            return
        compute_s = time.perf_counter() - started
        good: list[tuple[Item, Output]] = []
        not_finite: list[Item] = []
        for item, output in zip(group, outputs, strict=True):
            if output is None:
                not_finite.append(item)
            else:
                good.append((item, output))
        if good:
            self._emit(_result(good, compute_s))
        self._on_not_finite(not_finite, was_alone=len(group) == 1)

    def _on_failure(self, group: list[Item]) -> None:
        log_failure(f"a forward pass over {len(group)} inputs failed")
        if len(group) == 1:
            message = "the model failed on this input"
            self._emit(Rejected([group[0].id], ErrorCode.INFERENCE_FAILED, message))
            return
        for item in group:
            self._run_group([item])

    def _on_not_finite(self, items: list[Item], *, was_alone: bool) -> None:
        if items and was_alone:
            message = "the model's output for this input is not finite"
            self._emit(Rejected([items[0].id], ErrorCode.INVALID_MODEL_OUTPUT, message))
            return
        for item in items:
            self._run_group([item])


def _result(computed: list[tuple[Item, Output]], compute_s: float) -> Result:
    ids = [item.id for item, _ in computed]
    token_counts = [item.prepared.length for item, _ in computed]
    truncated = [item.id for item, _ in computed if item.prepared.truncated]
    vectors = [output for _, output in computed if isinstance(output, bytes)]
    if vectors:
        return Embedded(ids, vectors, token_counts, truncated, compute_s)
    scores = [output for _, output in computed if isinstance(output, Score)]
    return Scored(
        ids,
        [score.score for score in scores],
        [score.raw for score in scores],
        token_counts,
        truncated,
        compute_s,
    )

"""The work of the compute thread: a batch in, results out, one micro-batch at a time.

Invariants: every item id of a batch is emitted exactly once; whoever is in a hurry waits for one
micro-batch at most; an input that fails is computed again
alone before it is rejected, so that only the guilty one is; nothing here knows threads or sockets.
"""

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.wire import (
    Batch,
    Detokenize,
    Embed,
    Embedded,
    EmbedTokens,
    Generate,
    Part,
    Rejected,
    Rerank,
    Result,
    Scored,
    Tokenize,
    TokenizeConversation,
    select,
)
from mlx_serve_worker.backend import Backend, Output, Prepared, Score
from mlx_serve_worker.calibration import IDLE_S, Calibration
from mlx_serve_worker.failure_log import log_failure
from mlx_serve_worker.inbox import Inbox
from mlx_serve_worker.lease import Lease
from mlx_serve_worker.planner import plan
from mlx_serve_worker.spare_memory import SpareMemory
from mlx_serve_worker.text_work import TextWork

P = TypeVar("P", bound=Part)

_NO_CHAT = (ErrorCode.MODEL_TYPE_MISMATCH, "this is not a chat model")


class Item(NamedTuple):
    id: int
    prepared: Prepared


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
        self._texts = TextWork(backend, emit)
        self._spare_memory = SpareMemory(backend.give_back_memory)

    def run(self, inbox: Inbox) -> None:
        """Until nothing is left to come."""
        while (batch := self._next(inbox)) is not None:
            for group in self._micro_batches(batch):
                # One each in turn, so that neither waits for all of the other.
                if (urgent := inbox.take_urgent()) is not None:
                    self._answer_at_once(urgent)
                if batch.urgent:
                    self._lease.hurry()
                else:
                    self._take_turn(inbox)
                self._run_group(group)
                self._lease.give_back()
                self._spare_memory.worked()

    def _next(self, inbox: Inbox) -> Batch | None:
        calibration = self._calibration
        while calibration is not None and calibration.is_due and inbox.stays_idle(IDLE_S):
            found = calibration.measure(self._lease, inbox.has_news)
            self._max_tokens = found or self._max_tokens
        self._spare_memory.rest(inbox)
        return inbox.take()

    def answer(self, batch: Batch) -> None:
        for group in self._micro_batches(batch):
            self._run_group(group)

    def _answer_at_once(self, batch: Batch) -> None:
        self._lease.hurry()
        self.answer(batch)
        self._lease.give_back()

    def _take_turn(self, inbox: Inbox) -> None:
        turn = self._lease.ask()
        while not self._lease.take(turn, give_way=inbox.has_urgent):
            if (urgent := inbox.take_urgent()) is not None:
                self._answer_at_once(urgent)

    def _micro_batches(self, batch: Batch) -> list[list[Item]]:
        """What is to be computed of a batch; the rest of it is answered."""
        items: list[Item] = []
        for part in batch.parts:
            part = self._without_cancelled(part)
            match part:
                case Tokenize():
                    self._texts.tokenize(part)
                case Detokenize():
                    self._texts.detokenize(part)
                case Embed() | EmbedTokens() | Rerank():
                    prepared = self._texts.each(part, self._backend.prepare)
                    items += [Item(*pair) for pair in prepared]
                case TokenizeConversation() | Generate():
                    self._emit(Rejected(part.ids, *_NO_CHAT))
        groups = plan(
            [item.prepared.length for item in items],
            max_items=self._max_items,
            max_tokens=self._max_tokens,
            padding_cost=self._backend.padding_cost,
        )
        return [[items[position] for position in group] for group in groups]

    def _without_cancelled(self, part: P) -> P:
        gone = {id for id in part.ids if self._is_cancelled(id)}
        if not gone:
            return part
        self._reject_cancelled(gone)
        return select(part, [at for at, id in enumerate(part.ids) if id not in gone])

    def _reject_cancelled(self, ids: set[int]) -> None:
        self._emit(Rejected(sorted(ids), ErrorCode.CANCELLED, "the caller has left"))

    # --- forward passes --------------------------------------------------------------------------

    def _run_group(self, group: list[Item]) -> None:
        if gone := {item.id for item in group if self._is_cancelled(item.id)}:
            self._reject_cancelled(gone)
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

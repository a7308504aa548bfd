"""The work of the compute thread: a batch in, results out, one micro-batch at a time.

Invariants: every item id of a batch is emitted exactly once; an input that fails is computed again
alone before it is rejected, so that only the guilty one is; nothing here knows threads or sockets.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import Batch, Embed, Embedded, Encoding, Rejected, Result
from mlx_serve_worker.backend import Backend, Prepared
from mlx_serve_worker.planner import plan

log = logging.getLogger(__name__)


class Item(NamedTuple):
    id: int
    prepared: Prepared
    encoding: Encoding


class Compute:
    def __init__(
        self,
        backend: Backend,
        *,
        max_items: int,
        max_tokens: int | None,
        emit: Callable[[Result], None],
        is_cancelled: Callable[[int], bool],
    ) -> None:
        self._backend = backend
        self._max_items = max_items
        self._max_tokens = max_tokens or backend.batch_tokens
        self._emit = emit
        self._is_cancelled = is_cancelled

    def run(self, batch: Batch) -> None:
        items = [
            item for part in batch.parts if isinstance(part, Embed) for item in self._prepare(part)
        ]
        groups = plan(
            [item.prepared.length for item in items],
            max_items=self._max_items,
            max_tokens=self._max_tokens,
        )
        for group in groups:
            self._run_group([items[position] for position in group])

    def _prepare(self, part: Embed) -> list[Item]:
        texts = dict(zip(part.ids, part.texts, strict=True))
        ids = self._drop_cancelled(part.ids)
        items: list[Item] = []
        for id, prepared in zip(ids, self._tokenized([texts[id] for id in ids], part), strict=True):
            if isinstance(prepared, ServeError):
                self._emit(Rejected([id], prepared.code, prepared.message))
            else:
                items.append(Item(id, prepared, part.encoding))
        return items

    def _tokenized(self, texts: Sequence[str], part: Embed) -> list[Prepared | ServeError]:
        try:
            return self._backend.prepare(texts, part.truncate)
        except Exception:
            if len(texts) == 1:
                log.exception("an input could not be tokenized")
                return [ServeError(ErrorCode.INFERENCE_FAILED, "the input could not be tokenized")]
            return [self._tokenized([text], part)[0] for text in texts]

    def _drop_cancelled(self, ids: Sequence[int]) -> list[int]:
        gone = [id for id in ids if self._is_cancelled(id)]
        if gone:
            self._emit(Rejected(gone, ErrorCode.CANCELLED, "the caller has left"))
        return [id for id in ids if id not in gone]

    def _run_group(self, group: list[Item]) -> None:
        wanted = set(self._drop_cancelled([item.id for item in group]))
        group = [item for item in group if item.id in wanted]
        if not group:
            return
        started = time.perf_counter()
        try:
            vectors = self._backend.embed(
                [item.prepared for item in group], [item.encoding for item in group]
            )
        except Exception:
            self._on_failure(group)
            return
        compute_s = time.perf_counter() - started
        good = [(item, vector) for item, vector in zip(group, vectors, strict=True) if vector]
        if good:
            self._emit(
                Embedded(
                    ids=[item.id for item, _ in good],
                    vectors=[vector for _, vector in good],
                    token_counts=[item.prepared.length for item, _ in good],
                    truncated=[item.id for item, _ in good if item.prepared.truncated],
                    compute_s=compute_s,
                )
            )
        self._on_not_finite(
            [item for item, vector in zip(group, vectors, strict=True) if not vector], len(group)
        )

    def _on_failure(self, group: list[Item]) -> None:
        log.exception("a forward pass over %d inputs failed", len(group))
        if len(group) == 1:
            message = "the model failed on this input"
            self._emit(Rejected([group[0].id], ErrorCode.INFERENCE_FAILED, message))
            return
        for item in group:
            self._run_group([item])

    def _on_not_finite(self, bad: list[Item], group_size: int) -> None:
        if group_size == 1 and bad:
            message = "the model's output for this input is not finite"
            self._emit(Rejected([bad[0].id], ErrorCode.INVALID_MODEL_OUTPUT, message))
            return
        for item in bad:
            self._run_group([item])

"""The work of the texts thread: batches become inputs for the model while it computes others.

Invariants: every item id of a batch is answered here or is one of the inputs handed on, once; who
has left is neither tokenized nor handed on; nothing here touches MLX, threads or sockets.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from mlx_serve_common.errors import ErrorCode
from mlx_serve_common.wire import (
    Batch,
    Detokenize,
    Embed,
    EmbedTokens,
    Generate,
    Part,
    Rejected,
    Rerank,
    Result,
    Tokenize,
    TokenizeConversation,
    select,
)
from mlx_serve_worker.backend import Backend, Prepared
from mlx_serve_worker.text_work import TextWork
from mlx_serve_worker.urgent_first import UrgentFirst

P = TypeVar("P", bound=Part)

_NO_CHAT = (ErrorCode.MODEL_TYPE_MISMATCH, "this is not a chat model")


class Item(NamedTuple):
    id: int
    prepared: Prepared


class Inputs(NamedTuple):
    """What is to be computed of a batch."""

    items: list[Item]
    urgent: bool


def callers_left(ids: list[int]) -> Rejected:
    return Rejected(ids, ErrorCode.CANCELLED, "the caller has left")


class Preparation:
    def __init__(
        self,
        backend: Backend,
        *,
        emit: Callable[[Result], None],
        is_cancelled: Callable[[int], bool],
    ) -> None:
        self._backend = backend
        self._emit = emit
        self._is_cancelled = is_cancelled
        self._texts = TextWork(backend, emit)

    def run(self, batches: UrgentFirst[Batch], ready: UrgentFirst[Inputs]) -> None:
        """Until nothing is left to come. How much gets ready ahead is the gateway's decision, which
        hands out no more than a batch ahead."""
        while (batch := batches.take()) is not None:
            inputs = self.inputs(batch)
            if inputs.items:
                ready.put(inputs, urgent=inputs.urgent)
        ready.close()

    def inputs(self, batch: Batch) -> Inputs:
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
        return Inputs(items, batch.urgent)

    def _without_cancelled(self, part: P) -> P:
        gone = [id for id in part.ids if self._is_cancelled(id)]
        if not gone:
            return part
        self._emit(callers_left(gone))
        return select(part, [at for at, id in enumerate(part.ids) if id not in gone])

"""The work of the texts thread: what is asked is made ready for the model while it computes others.

Invariants: every item id of a batch is answered here or handed on, once; who has left is neither
read nor handed on; nothing here touches MLX, threads or sockets.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

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
from mlx_serve_worker.backend import Backend, Generator
from mlx_serve_worker.text_work import TextWork
from mlx_serve_worker.urgent_first import UrgentFirst

P = TypeVar("P", bound=Part)

_NO_CHAT = (ErrorCode.MODEL_TYPE_MISMATCH, "this is not a chat model")
_NO_VECTORS = (ErrorCode.MODEL_TYPE_MISMATCH, "this is a chat model; it gives no vectors or scores")


class Item(NamedTuple):
    id: int
    prepared: Any
    """What the model's ``prepare`` has made of it."""


class Inputs(NamedTuple):
    """What the model has to do of a batch."""

    items: list[Item]
    urgent: bool


def callers_left(ids: list[int]) -> Rejected:
    return Rejected(ids, ErrorCode.CANCELLED, "the caller has left")


class Preparation:
    def __init__(
        self,
        model: Backend | Generator,
        *,
        emit: Callable[[Result], None],
        is_cancelled: Callable[[int], bool],
    ) -> None:
        # Asked once: it looks at every member.
        self._chat = model if isinstance(model, Generator) else None
        self._backend = None if isinstance(model, Generator) else model
        self._emit = emit
        self._is_cancelled = is_cancelled
        self._texts = TextWork(model, emit)

    def run(self, batches: UrgentFirst[Batch], ready: UrgentFirst[Inputs]) -> None:
        """Until nothing is left to come. How much gets ready ahead is the gateway's decision, which
        hands out no more than a batch ahead, or as many answers as may run."""
        while (batch := batches.take()) is not None:
            inputs = self.inputs(batch)
            if inputs.items:
                ready.put(inputs)
        ready.close()

    def inputs(self, batch: Batch) -> Inputs:
        """What the model has to do of a batch; the rest of it is answered."""
        items = [
            item for part in batch.parts for item in self._items(self._without_cancelled(part))
        ]
        return Inputs(items, batch.urgent)

    def _items(self, part: Part) -> list[Item]:
        match part:
            case Tokenize():
                self._texts.tokenize(part)
            case Detokenize():
                self._texts.detokenize(part)
            case TokenizeConversation() if self._chat is not None:
                self._texts.emit_tokens(self._texts.each(part, self._chat.tokenize_conversation))
            case Generate() if self._chat is not None:
                return [Item(*pair) for pair in self._texts.each(part, self._chat.prepare)]
            case Embed() | EmbedTokens() | Rerank() if self._backend is not None:
                return [Item(*pair) for pair in self._texts.each(part, self._backend.prepare)]
            case _:
                self._emit(Rejected(part.ids, *(_NO_CHAT if self._chat is None else _NO_VECTORS)))
        return []

    def _without_cancelled(self, part: P) -> P:
        gone = [id for id in part.ids if self._is_cancelled(id)]
        if not gone:
            return part
        self._emit(callers_left(gone))
        return select(part, [at for at, id in enumerate(part.ids) if id not in gone])

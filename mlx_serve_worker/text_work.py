"""Conversions that every kind of model offers: texts to token ids and back.

Invariants: every item id of a part is emitted exactly once, unless its conversion is returned; a
conversion that fails is tried again item by item, so that only the guilty one is rejected.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from mlx_serve_common.errors import ErrorCode, ServeError
from mlx_serve_common.wire import (
    Detokenize,
    Detokenized,
    Part,
    Rejected,
    Result,
    Tokenize,
    Tokenized,
    select,
)
from mlx_serve_worker.backend import Tokens, Vocabulary
from mlx_serve_worker.failure_log import log_failure

P = TypeVar("P", bound=Part)
T = TypeVar("T")


class TextWork:
    def __init__(self, vocabulary: Vocabulary, emit: Callable[[Result], None]) -> None:
        self._vocabulary = vocabulary
        self._emit = emit

    def tokenize(self, part: Tokenize) -> None:
        self.emit_tokens(self.each(part, self._vocabulary.tokenize))

    def emit_tokens(self, good: Sequence[tuple[int, Tokens]]) -> None:
        if good:
            self._emit(
                Tokenized(
                    ids=[id for id, _ in good],
                    tokens=[tokens.ids for _, tokens in good],
                    pieces=[tokens.pieces for _, tokens in good],
                )
            )

    def detokenize(self, part: Detokenize) -> None:
        if good := self.each(part, self._vocabulary.detokenize):
            self._emit(Detokenized([id for id, _ in good], [text for _, text in good]))

    def each(
        self, part: P, convert: Callable[[P], Sequence[T | ServeError]]
    ) -> list[tuple[int, T]]:
        """The inputs that could be converted, with their ids; the others are rejected."""
        good: list[tuple[int, T]] = []
        for id, converted in zip(part.ids, _converted(part, convert), strict=True):
            if isinstance(converted, ServeError):
                self._emit(Rejected.because([id], converted))
            else:
                good.append((id, converted))
        return good


def _converted(
    part: P, convert: Callable[[P], Sequence[T | ServeError]]
) -> Sequence[T | ServeError]:
    if not part.ids:
        return []
    try:
        return convert(part)
    except Exception:
        if len(part.ids) == 1:
            log_failure("an input could not be read")
            return [ServeError(ErrorCode.INFERENCE_FAILED, "the input could not be read")]
        alone = [select(part, [position]) for position in range(len(part.ids))]
        return [_converted(each, convert)[0] for each in alone]

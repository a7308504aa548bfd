"""Keeps an answer within a JSON schema while it is generated.

Invariants: what is not part of a fitting JSON value cannot be chosen, once thoughts are over.
"""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from llguidance import LLMatcher

from mlx_serve_common.errors import ServeError
from mlx_serve_worker.chat.grammars import refused, told

IsOver = Callable[[int], bool]
"""Told each token of the model's thoughts, whether they end with it."""


class Thinking:
    """The model's thoughts, which come before its answer and are free."""

    def __init__(self, start: int | None, has_begun: bool, is_over: IsOver) -> None:
        """``start`` begins them, where it is up to the model whether they come."""
        self.start = start
        self.has_begun = has_begun
        self.is_over = is_over


class Constraint:
    """Forbids a row every token that does not fit; for ``BatchGenerator``."""

    def __init__(
        self,
        matcher: LLMatcher,
        param: str,
        *,
        vocab_size: int,
        ends: Sequence[int],
        thoughts: Thinking | None,
    ) -> None:
        """``param`` is which of the request's fields has the schema."""
        self._matcher = matcher
        self._param = param
        self._vocab_size = vocab_size
        self._ends = ends
        self._thoughts = thoughts
        self._has_prompt = False

    @property
    def error(self) -> ServeError | None:
        """What has made it impossible to go on."""
        if not self._matcher.is_error():
            return None
        return refused(told(self._matcher.get_error()), self._param)

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        if self._has_prompt:
            self._consume(int(tokens[-1]))
        self._has_prompt = True
        thoughts = self._thoughts
        if (thoughts is not None and thoughts.has_begun) or self._matcher.is_error():
            return logits
        allowed = self._allowed()
        if thoughts is not None and thoughts.start is not None:
            allowed[thoughts.start] = True
        return mx.where(mx.array(allowed), logits, -mx.inf)

    def _consume(self, token: int) -> None:
        thoughts = self._thoughts
        if thoughts is not None:
            if thoughts.has_begun:
                if thoughts.is_over(token):
                    self._thoughts = None
                return
            thoughts.has_begun = token == thoughts.start
            if thoughts.has_begun:
                return
            self._thoughts = None
        if token < self._vocab_size and not self._matcher.is_stopped():
            self._matcher.consume_token(token)

    def _allowed(self) -> "np.ndarray[Any, Any]":
        allowed = np.zeros(self._vocab_size, dtype=np.bool_)
        if self._matcher.is_stopped():
            allowed[self._ends] = True
            return allowed
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        told = np.unpackbits(bits, bitorder="little")[: self._vocab_size]
        allowed[: told.size] = told
        return allowed
